# A list whose program fails
# both refuse: 3
FROM base
RUN ["sh", "-c", "exit 3"]
