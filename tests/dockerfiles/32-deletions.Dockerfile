# Files and folders of lower layers that are deleted, and come again
FROM base
RUN rm /data/gone /data/hard && rm -r /usr/bin && ln -s /bin /usr/bin
RUN rm /bin/env && mkdir /bin/env && touch /bin/env/x
RUN rm -r /tmp && mkdir -m 1777 /tmp && rm -r /data && mkdir /data && echo new > /data/new
RUN rm -r /data
COPY one.txt /data/
RUN rm /data/one.txt && touch /made && rm /made
