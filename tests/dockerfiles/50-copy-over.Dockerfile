# COPY over files, links and folders that are there
FROM base
RUN mkdir -m 700 /dir /dir/sub && chown app:web /dir && echo longer than the new one > /dir/some && ln -s /data/old /to-file && chmod 4700 /data/old
COPY one.txt /to-file
COPY one.txt /data/old
COPY dir /dir
COPY dir /
