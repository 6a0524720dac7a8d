# COPY: a pattern that matches nothing is nothing, alone, too, and its destination is not made
FROM base AS made
RUN mkdir /d && touch /d/a /d/b
FROM base
COPY one.txt yarn.lock* ./app/
COPY nothing* /not-made/
COPY nothing* neither?one [x]none /not-made/either/
COPY none*/below dir/no* /not-made/
COPY --from=made /d/a* /d/c* /from/
COPY --from=made /nothing* /not-made/
ADD none*.tar two.txt /add/
RUN ls -R /app /from /add > /listed; ls -d /not-made 2> /dev/null || echo none > /none
