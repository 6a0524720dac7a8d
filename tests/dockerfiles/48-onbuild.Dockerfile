# ONBUILD
# ours refuse: ONBUILD
FROM base
ONBUILD RUN true
