# Stages: what one leaves to another, and one that is not needed
FROM base AS first
ENV STAGE=first
WORKDIR /w
USER app
LABEL stage=1
FROM base AS unused
RUN exit 1
FROM first AS second
RUN echo "$STAGE $(pwd) $(id -u)" > /tmp/second
EXPOSE 1
FROM second
COPY --from=first /etc/passwd .
