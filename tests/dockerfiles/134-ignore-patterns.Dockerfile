# What .dockerignore leaves out matches no pattern
FROM base
COPY *.txt /x/
COPY tw*.txt /not-made/
