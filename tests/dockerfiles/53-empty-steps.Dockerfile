# Steps that change nothing
FROM base
RUN true
WORKDIR /
WORKDIR /data
COPY empty /data
RUN true
