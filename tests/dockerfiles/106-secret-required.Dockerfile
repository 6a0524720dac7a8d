# RUN --mount=type=secret,required that is not given
# both refuse: the secret key is not given
FROM base
RUN --mount=type=secret,id=key,required true
