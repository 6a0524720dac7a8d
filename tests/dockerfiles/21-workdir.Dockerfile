# WORKDIR: relative, with variables, made where it is not there, the steps after it
FROM base
WORKDIR /a/b
WORKDIR c
RUN pwd > here
ENV D=/dir E=e
WORKDIR $D
RUN pwd > here && chmod 777 .
WORKDIR ${E}/f
WORKDIR ..
RUN pwd > here
WORKDIR ./x/
COPY one.txt .
COPY dir ./
COPY one.txt ../up
COPY two.txt y/
WORKDIR "/with space"
RUN pwd > here
WORKDIR /data
