# WORKDIR: relative, with variables, with dots, back to the root
FROM base
ENV X=x/y EMPTY=
WORKDIR rel
WORKDIR ./$X/../z
RUN pwd > /p1
WORKDIR ../..
RUN pwd > /p2
WORKDIR /a/b/
WORKDIR ${NONE:-deeper}
COPY one.txt .
RUN pwd > /p3
WORKDIR "/with space/$X"
RUN pwd > /p4
WORKDIR /
RUN pwd > /p5
