# COPY of a link that leads to a place that the context has not
# both refuse: the link dir/stays-a-link leads to /etc/shadow
FROM base
COPY dir/stays-a-link /
