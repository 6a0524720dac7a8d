# COPY: with and without slashes at either end, into what is and is not there
FROM base
COPY one.txt /
COPY one.txt /renamed
COPY one.txt /made/below/
COPY one.txt two.txt /several/
COPY dir /of-dir
COPY dir/ /of-dir-slash
COPY dir /of-dir-to-slash/
COPY dir/. /of-dir-dot
COPY dir/sub dir /merged/
COPY one.txt /tmp
COPY one.txt /data/old
COPY ./two.txt ././dotted
COPY /one.txt /absolute
COPY ../one.txt /climbed
COPY dir/../two.txt /within
COPY dir/sub/deep /a/b/c/d
COPY empty /empty
COPY one.txt /ends/in/dot/.
