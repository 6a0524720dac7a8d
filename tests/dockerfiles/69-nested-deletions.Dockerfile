# Deletions of what is deep in lower layers, and of what a COPY brought
FROM base
COPY dir /a/b/c
COPY dir /a/b/d
RUN rm -r /a/b/c/sub && touch /a/b/d/new
RUN rm -r /a/b && mkdir -p /a/b/c && echo again > /a/b/c/some
RUN rm -r /a/b/c; mv /a /moved
RUN rm -r /usr /var && mkdir /usr && ln -s /usr /var
