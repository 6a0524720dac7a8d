# Links in folders that are copied stay links, from the context, a stage, an image
FROM base AS one
RUN mkdir /l && ln -s /data/old /l/abs && ln -s ../data /l/up && ln -s gone /l/dangling && ln -s . /l/self
FROM base
COPY --from=one /l /l
COPY --from=one /l/abs /followed
COPY --from=one /l/up /followed-folder
COPY linked /linked-folder
COPY . /everything
