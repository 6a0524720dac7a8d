#!/usr/bin/env python3
"""Prints the tree of an image as its engine unpacks it: export_tree.py IMAGE

One line a path, from `docker export` of a container that was never started; what the engine itself puts
there is left out. Shares no code with twostage.
"""
import hashlib
import subprocess
import sys
import tarfile

# Docker makes these in each container; where an image has them it mounts over them.
ENGINES = {".dockerenv", "dev/console", "dev/pts", "dev/shm", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def line(member, archive):
    kind = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.CHRTYPE: "char",
            tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo", tarfile.LNKTYPE: "link"}[member.type]
    words = [repr(member.name), kind, oct(member.mode), f"{member.uid}:{member.gid}"]
    if kind == "file":
        digest = hashlib.sha256()
        data = archive.extractfile(member)
        while piece := data.read(1 << 20):
            digest.update(piece)
        words += [str(member.size), digest.hexdigest()[:16]]
    elif kind in ("symlink", "link"):
        words.append(repr(member.linkname))
    elif kind in ("char", "block"):
        words.append(f"{member.devmajor},{member.devminor}")
    if kind != "dir":
        words.append(str(int(member.mtime)))
    words += [f"{key}={value!r}" for key, value in sorted(member.pax_headers.items()) if key.startswith("SCHILY.xattr.")]
    return " ".join(words)


def main():
    container = run("docker", "create", sys.argv[1], "true")
    try:
        export = subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE)
        lines = []
        with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            for member in archive:
                if member.name not in ENGINES:
                    lines.append(line(member, archive))
        export.stdout.read()
        if export.wait():
            sys.exit("docker export failed")
    finally:
        run("docker", "rm", container)
    print("\n".join(sorted(lines)))


main()
