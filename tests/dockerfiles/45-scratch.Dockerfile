# FROM scratch
FROM scratch
COPY dir /d
COPY one.txt /
ADD plain.tar /plain/
ENV A=b
WORKDIR /w/x
CMD ["/one"]
