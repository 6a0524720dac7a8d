# COPY: links of the context are followed where they are named, and stay links below
FROM base
COPY link.txt /followed
COPY linked /folder
COPY linked/sub /through/
COPY link.txt linked /both/
