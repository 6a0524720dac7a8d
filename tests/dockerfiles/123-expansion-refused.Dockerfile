# Variables: a pattern's escape that means nothing
# both refuse: a pattern
FROM base
ENV A=abc
ENV B=${A#\a}
