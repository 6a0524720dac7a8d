# RUN --mount=type=ssh,required without an agent
# both refuse: the SSH agent default is not forwarded
FROM base
RUN --mount=type=ssh,required true
