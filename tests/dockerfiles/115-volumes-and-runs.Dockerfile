# VOLUME: what is written below it, before and after, is in the image
FROM base
RUN mkdir -p /v/a && echo before > /v/a/before
VOLUME /v
RUN echo after > /v/after && rm /v/a/before
COPY one.txt /v/copied
ENV W=/w
VOLUME $W "${W}2"
RUN ls -d /w 2> /dev/null || echo none > /none
