# COPY of what is not there
# both refuse: there is no
FROM base
COPY missing /x
