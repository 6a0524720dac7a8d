# ARG: names in quotes and from variables; COPY --from of nothing, and of no name; a later stage in one that is not needed
# build: --build-arg given=yes
FROM base AS unneeded
COPY --from=later /x /y
FROM base AS later
FROM base
ENV N=given
ARG "Q"='quoted' $N=no "two words"=w
RUN echo "[$Q] [$given]" > /all
COPY --from=scratch / /made
COPY --from=scratch /none* /not-made
COPY --from= one.txt /x
