# COPY of the whole context, links and odd names and all
FROM base
COPY . /all/
COPY . relative
COPY ["odd/with space", "odd/do\\$lar", "/names with space/"]
