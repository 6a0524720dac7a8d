# COPY --link
# ours refuse: the flag --link
FROM base
COPY --link one.txt /x/y/
COPY --link --chown=3:4 dir /z/
