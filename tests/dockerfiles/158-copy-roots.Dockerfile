# COPY --from: all of a stage, of an image, of nothing but a root's patterns
FROM scratch AS empty
COPY one.txt /
FROM base AS one
RUN echo x > /made && rm -r /data
FROM base
COPY --from=one / /all/
COPY --from=base / /image
COPY --from=empty / /one/
COPY --from=one /ma* /e?c /pattern/
COPY --from=one /etc/ /dev /some/
