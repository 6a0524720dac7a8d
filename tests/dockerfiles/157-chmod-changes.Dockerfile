# --chmod: changes, and a number from a variable, which Docker 26 passes over in silence
FROM base
ARG M=0711
COPY --chmod=u=rwX,go= dir /d/
COPY --chmod=+x,o-r one.txt /x
COPY --chmod=$M one.txt /m
COPY --chmod=0640 one.txt /number
