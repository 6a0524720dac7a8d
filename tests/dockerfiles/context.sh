#!/bin/sh
# The context of every case: context.sh FOLDER. Files of every kind, the same each time, with old times; `NN-name.sh`
# adds what only one case needs.
set -eu
cd "$1"
mkdir -p dir/sub strange empty odd
for name in one.txt two.txt dir/sub/deep dir/some strange/program strange/secret strange/setuid "odd/with space" 'odd/[b]racket' 'odd/do$lar'; do
    echo "$name" > "$name"
done
ln dir/some dir/other
ln -s one.txt link.txt
ln -s dir linked
ln -s /etc/shadow dir/stays-a-link
chmod 755 strange/program
chmod 600 strange/secret
chmod 4755 strange/setuid
chmod 700 strange
chmod 750 dir/sub
mkfifo strange/pipe
echo 'no archive' > fake.tar.gz
truncate -s 1M holes
printf end >> holes
find . -exec touch -h -d @1500000000 {} +
pack() { tar --sort=name --numeric-owner "$@"; }
pack --owner=8 --group=9 -cf plain.tar dir one.txt
pack --owner=8 --group=9 --no-recursion -cf dotted.tar ./ ./dir ./dir/some ./dir/sub ./one.txt
gzip -nk one.txt
pack -c strange | gzip -n > packed.tar.gz
pack -c two.txt | xz > packed.tar.xz
pack -c dir/sub | bzip2 > packed.tar.bz2
pack -c one.txt | zstd -q > packed.tar.zst
# What only a tar can hold here.
python3 - << 'PYTHON'
import io, tarfile
with tarfile.open("members.tar", "w", format=tarfile.PAX_FORMAT) as tar:
    def add(name, kind=tarfile.REGTYPE, mode=0o644, data=b"", link="", owner=(0, 0), device=(0, 0), pax={}):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.size, info.mtime = kind, mode, link, len(data), 1400000000
        (info.uid, info.gid), (info.devmajor, info.devminor), info.pax_headers = owner, device, pax
        tar.addfile(info, io.BytesIO(data))
    net_raw = bytes([1, 0, 0, 2, 0, 0x20] + [0] * 14).decode("latin-1")
    add("m", tarfile.DIRTYPE, 0o1777, owner=(3, 4))
    add("m/setuid", mode=0o4711, data=b"setuid", owner=(0, 5))
    add("m/setgid", mode=0o2755, data=b"setgid", owner=(6, 7))
    add("m/capable", mode=0o755, data=b"capable", pax={"SCHILY.xattr.security.capability": net_raw})
    add("m/attribute", data=b"attribute", pax={"SCHILY.xattr.user.note": "kept?"})
    add("m/hard", tarfile.LNKTYPE, 0o2755, link="m/setgid", owner=(6, 7))
    add("m/absolute", tarfile.SYMTYPE, 0o777, link="/etc/passwd")
    add("m/dangling", tarfile.SYMTYPE, 0o777, link="nowhere/at all")
    add("m/fifo", tarfile.FIFOTYPE, 0o640)
    add("m/null", tarfile.CHRTYPE, 0o666, device=(1, 3))
    add("m/" + "long" * 45, data=b"long")
    add("m/" + "d" * 120 + "/" + "e" * 120, data=b"deep")
    add("unmentioned/folder/file", data=b"x", owner=(1, 1))
    add("m/big-owner", owner=(3000000, 3000001))
PYTHON
find . -exec touch -h -d @1500000000 {} +
