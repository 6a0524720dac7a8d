# COPY: the folder that a pattern begins with has to be there
# both refuse: nodir
FROM base
COPY one.txt nodir/*.txt /x/
