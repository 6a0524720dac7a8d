# VOLUME: what is written after it stays
FROM base AS volumes
RUN mkdir /v && echo before > /v/before
VOLUME /v /data
RUN echo after > /v/after && rm /data/gone
COPY one.txt /v/copied
FROM volumes
RUN echo inherited > /v/inherited
COPY --from=volumes /v /w
