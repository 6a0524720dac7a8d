# Only rights, owners or times change
FROM base
RUN chmod 4755 /bin/cat
RUN chown app /data/old
RUN touch -d @1100000000 /data/gone /data
RUN chmod 700 /usr && chown -h app /library
