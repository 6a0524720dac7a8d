# FROM scratch, filled with an image
FROM scratch
ENV PATH=/bin
COPY --from=base / /
RUN echo $PATH > /p && rm /data/gone
