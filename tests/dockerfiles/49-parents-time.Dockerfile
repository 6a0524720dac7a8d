# Times of files that are copied, and of folders above them
FROM base
RUN touch -d @1300000000 /data /tmp
COPY one.txt /data/
COPY dir /tmp/
COPY dir /made
ADD plain.tar /made-too/
RUN touch -d @1200000000 /data/old
