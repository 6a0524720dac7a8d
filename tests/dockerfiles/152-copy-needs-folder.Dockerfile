# COPY of several that a pattern names needs a folder
# ours refuse: several files
FROM base
COPY *.txt /file
