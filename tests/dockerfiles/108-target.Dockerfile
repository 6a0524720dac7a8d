# --target: the stage that is asked for, by name
# build: --target TWO
FROM base AS one
RUN echo one > /one
FROM base AS two
COPY --from=one /one /
ENV STAGE=two
FROM two AS three
RUN exit 1
