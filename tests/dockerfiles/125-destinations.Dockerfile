# COPY: where the destination is none, a dot, above, or relative
FROM base
WORKDIR /w
COPY one.txt .
COPY one.txt ./a/
COPY one.txt b
COPY one.txt ../c
COPY one.txt ""
COPY dir d
COPY dir e/.
COPY dir/ f/../g/
COPY one.txt two.txt ../h/
COPY one.txt /
COPY one.txt /i/j/../k/
