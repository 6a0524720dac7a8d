# COPY --from a number that no stage has
# both refuse: there is no stage 7
FROM base
COPY --from=7 /x /y
