# What .dockerignore leaves out is not there for COPY
# both refuse: .dockerignore leaves it out
FROM base
COPY one.txt /x
