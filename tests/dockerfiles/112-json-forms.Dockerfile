# Lists that are some, and texts that only look like it
FROM base AS a
ENTRYPOINT [ "a" , "b\u0041\n" ]
CMD [ 'a' ]
FROM base AS b
ENTRYPOINT ["a",]
CMD ["x", "$A", "\"q\""]
FROM base
COPY --from=a / /a-root
RUN ["sh", "-c", "echo $BASE > /run"]
RUN [ "$BASE" = yes ] && echo shell > /test
VOLUME ["/v 1", "/v2"]
VOLUME /v3 /v4
SHELL ["/bin/sh", "-e", "-c"]
ENTRYPOINT exec "$@" # not a comment
CMD []
