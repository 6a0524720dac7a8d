# COPY --chown of a user that nobody knows
# ours refuse: nobody-known
FROM base
COPY --chown=nobody-known one.txt /x
