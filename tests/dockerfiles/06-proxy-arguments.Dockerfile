# Proxies are there without an ARG, and in no history; one that is declared is
# build: --build-arg http_proxy=http://p:1 --build-arg NO_PROXY=here --build-arg FTP_PROXY=f
FROM base
RUN echo "$http_proxy $NO_PROXY" > /undeclared
ARG FTP_PROXY
RUN echo "$FTP_PROXY" > /declared
