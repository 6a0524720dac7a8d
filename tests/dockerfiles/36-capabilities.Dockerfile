# Capabilities and attributes of files: of an archive, copied by a RUN, from a stage
FROM base AS one
ADD members.tar /
RUN cp -a /m/capable /m/again && cp /m/capable /m/without && cp -a /m/attribute /m/attribute2
RUN chmod 700 /m/capable
FROM base
COPY --from=one /m/capable /m/attribute /m/setuid /c/
COPY --from=one --chown=1:2 /m/capable /m/setuid /owned/
COPY --from=one /m /whole
