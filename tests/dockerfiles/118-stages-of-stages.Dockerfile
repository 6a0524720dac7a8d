# Stages that start from stages: what they inherit, what ends with them
ARG G=g
FROM base AS a
ARG G
ARG L=l
ENV E=$G$L
USER app
WORKDIR /w
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT ["e"]
CMD ["c"]
LABEL of=a a=1
FROM a AS b
ARG L
RUN echo "[$G] [$L] [$E]" > /tmp-of-b 2> /dev/null || true
USER 0
RUN id -u > /u; pwd > /p; echo "[$G] [$L] [$E]" > /v
LABEL a=2 b=2
FROM b
CMD ["other"]
ENTRYPOINT ["f"]
