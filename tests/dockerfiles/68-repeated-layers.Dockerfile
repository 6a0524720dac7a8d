# Steps that make the same layer again, and layers between them that take it away
FROM base AS one
RUN true
FROM one
COPY one.txt /x/
RUN rm -r /x
COPY one.txt /x/
RUN true
RUN rm -r /x
RUN true
COPY one.txt two.txt /x/
COPY one.txt /x/
