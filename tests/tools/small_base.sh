#!/bin/sh
# A base image of this machine's shell and coreutils, 5 MB: small_base.sh NAME, or as a tar, small_base.sh --tar FILE
set -eu
[ "$1" != --tar ] || tar=$(realpath "$2")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"
mkdir -p bin etc tmp usr/bin root var/lib data dev proc sys
chmod 755 .
chmod 1777 tmp
cp -L /bin/dash bin/sh
for program in cat chmod chown cp dd env head hostname id ln ls mkdir mkfifo mknod mv readlink rm rmdir sleep stat touch truncate wc; do
    cp -L "$(command -v $program)" bin/
done
for program in bin/*; do ldd "$program" | grep -o '/[^ ]*'; done | sort -u | while read -r library; do
    mkdir -p "./$(dirname "$library")"
    cp -L "$library" "./$library"
done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n' > etc/passwd
printf 'root:x:0:\nweb:x:1001:\nextra:x:1002:app\n' > etc/group
# (What an engine mounts something over; else some leave it in the layer of a RUN.)
touch etc/hosts etc/hostname etc/resolv.conf
echo old > data/old
echo gone > data/gone
ln data/old data/hard
ln -s /var/lib library
ln -s ../../../../etc climbing
rootfs() { tar --numeric-owner --owner=0 --group=0 --mtime=@1600000000 -c .; }
if [ "$1" = --tar ]; then rootfs > "$tar"; exit; fi
rootfs | docker import -c 'ENV PATH=/bin:/usr/bin' -c 'ENV BASE=yes' -c 'LABEL of=base' -c 'CMD ["sh"]' - "$1"
