# COPY into folders and onto files that are links of the image
FROM base
RUN mkdir /real && echo old > /real/f && ln -s /real /abs && ln -s real rel && ln -s /nowhere/x dang && ln -s /real/f file
COPY one.txt /abs/
COPY one.txt /rel/two
COPY one.txt /file
COPY dir /abs
COPY one.txt /dang/
