# Names that mean something to layers
FROM base
RUN mkdir /w && touch /w/.wh /w/wh. /w/.white /w/..data
COPY dir /w/.wh-not
