# COPY --from keeps rights and times, not owners
FROM base AS one
RUN mkdir -p /o/deep && touch -d @1234567890 /o/file /o/deep/file && chown -R app:extra /o && chmod 2750 /o/deep && chmod 600 /o/file && touch -d @1222222222 /o/deep /o
FROM base
COPY --from=one /o /copied
COPY --from=one /o/file /o/deep/file /data/
COPY --from=one /o/deep/ /data
COPY --from=one --chown=9 /o/ /nine
ADD --chown=7:8 one.txt /seven
