# COPY --from of a stage that is not there yet
# both refuse: later
FROM base AS one
COPY --from=later /x /x
FROM base AS later
FROM one
