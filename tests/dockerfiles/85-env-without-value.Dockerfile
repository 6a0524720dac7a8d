# ENV without a value
# both refuse: ENV
FROM base
ENV A
