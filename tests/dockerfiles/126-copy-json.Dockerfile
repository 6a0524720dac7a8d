# COPY and ADD as lists: spaces and what is a pattern elsewhere
FROM base
COPY ["odd/with space", "/x y/z"]
COPY ["odd/with space", "one.txt", "/two names/"]
ADD ["odd/do\\$lar", "/dollar"]
COPY [ "odd/[[]b]racket" , "/bracket" ]
COPY --chown=app [ "one.txt", "two.txt", "/l/" ]
