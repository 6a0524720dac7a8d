# Names that are no text
FROM base
RUN touch "/tmp/$(printf 'a\377b')" && mkdir "/tmp/$(printf '\303')"
