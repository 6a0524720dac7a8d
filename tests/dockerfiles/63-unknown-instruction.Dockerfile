# An instruction that nobody knows
# both refuse: INVALID
FROM base
INVALID x
