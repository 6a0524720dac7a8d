# COPY --from: a stage by name and number, an image
FROM base AS first
RUN mkdir /out && echo 1 > /out/one && echo 2 > /out/two.so && ln -s one /out/link && ln -s /etc/passwd /out/abs && ln /out/one /out/hard
RUN ln -s /out /way && rm /data/gone && chown app:web /out/one && chmod 4711 /out/two.so
FROM first AS second
RUN echo 3 > /out/three && rm /out/one
FROM second
COPY --from=first /out /from-first
COPY --from=0 /out/*.so /from-0/
COPY --from=first /out/link /out/abs /followed/
COPY --from=first /way/one /through
COPY --from=second /out/three /data/three
COPY --from=base /etc/passwd /etc/group /from-image/
COPY --from=first --chown=app:web /out/. /owned/
COPY --from=first /climbing/passwd /climbed
COPY --from=first out/one relative
COPY --from=First /out/one /in-capitals
