# COPY and WORKDIR into folders of the image that are links
FROM base
COPY dir/sub library/
COPY one.txt /library
COPY one.txt /climbing/one
RUN ln -s /made/later /dangles && ln -s . /self && mkdir /real && ln -s real /to
COPY one.txt /to/
COPY dir /to
COPY one.txt /self/self/x/
COPY one.txt /dangles/
WORKDIR /to/below
RUN pwd > here
WORKDIR /library
COPY two.txt .
