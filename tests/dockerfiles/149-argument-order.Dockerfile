# ARG: again, after ENV, before ENV, without a value, given twice
# build: --build-arg A=given --build-arg N=1
FROM base
ARG A=x
ARG A=y
ENV A=env
ARG A
ARG N
ARG N=2
ARG E=
ARG Q="a b" R='c d'
ENV L=$A.$N.[$E].$Q
RUN echo "$A|$N|$E|$Q|$R|$L" > /all
