# CMD and ENTRYPOINT that say nothing
FROM base AS one
CMD
ENTRYPOINT
FROM base
ENTRYPOINT []
CMD [""]
COPY --from=one /data /d
