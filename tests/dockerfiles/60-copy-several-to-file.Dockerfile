# COPY of several files to a path without a slash
# ours refuse: COPY
FROM base
COPY one.txt two.txt /x
