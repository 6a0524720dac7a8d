# ARG before FROM, its default, given values, and what each stage sees
# build: --build-arg GIVEN=given --build-arg WORDS=a\ b
ARG TAG=base
ARG GLOBAL=global
ARG GIVEN=unused
FROM ${TAG} AS one
RUN echo "[$TAG][$GLOBAL][$GIVEN]" > /none
ARG GLOBAL
ARG GIVEN
ARG LOCAL=local OTHER
ARG WORDS
RUN echo "[$TAG][$GLOBAL][$GIVEN][$LOCAL][$OTHER][$WORDS]" > /all
FROM ${TAG}
COPY --from=one /none /all /
ARG GLOBAL=overridden
ARG LOCAL
RUN echo "[$GLOBAL][$LOCAL]" > /second
ENV FROM_ARG=$GLOBAL
ARG GLOBAL=later
RUN echo "[$GLOBAL]" > /third
