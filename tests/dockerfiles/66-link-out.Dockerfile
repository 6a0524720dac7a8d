# COPY of a link that leads out of the context
# both refuse: leads out of it
FROM base
COPY dir/stays-a-link /
