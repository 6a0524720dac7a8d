# FROM --platform, and the variables that are there without being given
FROM --platform=$BUILDPLATFORM base AS first
ARG TARGETPLATFORM TARGETARCH TARGETOS BUILDARCH BUILDPLATFORM TARGETVARIANT
RUN echo "$TARGETPLATFORM $TARGETARCH $TARGETOS $BUILDARCH $BUILDPLATFORM [$TARGETVARIANT]" > /all
FROM --platform=linux/${TARGETARCH} base
COPY --from=first /all /
RUN echo "[$TARGETARCH]" > /none
