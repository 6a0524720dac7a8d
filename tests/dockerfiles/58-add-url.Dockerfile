# ADD of URLs: names, folders, rights, owners, times; what is packed stays so
FROM base
ADD http://@server/dated /x
ADD http://@server/dated http://@server/undated /several/
ADD --chown=app:web http://@server/moved /made/below/
ADD --chmod=0755 http://@server/empty /moded
ADD http://@server/packed.tar.gz /
ADD http://@server/dated /data
ADD http://@server/a%20b?query=/x#/y /names/
ADD http://@server/ /index
ARG NAME=dated
ADD http://@server/$NAME one.txt mixed/
WORKDIR /here
ADD ["http://@server/dated", "."]
ADD http://@server/dated /data/old
