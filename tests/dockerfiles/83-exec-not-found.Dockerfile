# RUN of a program that is not there
# both refuse: RUN
FROM base
RUN ["/no/such/program"]
