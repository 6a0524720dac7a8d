#!/usr/bin/env python3
"""Names what differs between the top layers of two `docker save` archives, entry by entry.

    diff_layers.py A.tar B.tar [--most N] [--meaning]

A layer's diff_id is the digest of a tar; when two differ, this says in which entry and in what of it.
With --meaning only what a container would see counts: not the names beside numbers of owners, nor that a
new folder is marked as new. Exits 0 if the layers are the same bytes, 1 if they differ. Shares no code with twostage.
"""
import argparse
import hashlib
import json
import posixpath
import sys
import tarfile

FIELDS = ["type", "mode", "uid", "gid", "uname", "gname", "mtime", "linkname", "size", "devmajor", "devminor", "pax_headers"]


def top_layer(path):
    """(an open archive, the member of its image's top layer)."""
    archive = tarfile.open(path)
    manifest = json.load(archive.extractfile("manifest.json"))[0]
    name = manifest["Layers"][-1]
    for _ in range(8):
        member = archive.getmember(name)
        if not member.issym():
            return archive, member
        name = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    sys.exit(f"{path}: links in a circle")


def digest(stream):
    return hashlib.file_digest(stream, "sha256").hexdigest()


SEEN = ["type", "mode", "uid", "gid", "mtime", "linkname", "size", "devmajor", "devminor"]


def entries(archive, member):
    """Name to (place, fields, digest of the content), in the tar's order."""
    found = {}
    with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as layer:
        for place, entry in enumerate(layer):
            content = digest(layer.extractfile(entry)) if entry.isreg() else None
            found[entry.name] = (place, {field: getattr(entry, field) for field in FIELDS}, content)
    return found


def first_difference(one, two, name):
    """Where two contents part, with what is there."""
    texts = []
    for archive, member in (one, two):
        with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as layer:
            texts.append(layer.extractfile(name).read())
    a, b = texts
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"content from byte {at}: {a[at:at + 24]!r} / {b[at:at + 24]!r}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("one")
    parser.add_argument("two")
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--meaning", action="store_true")
    arguments = parser.parse_args()
    one, two = top_layer(arguments.one), top_layer(arguments.two)
    ids = [digest(archive.extractfile(member)) for archive, member in (one, two)]
    if ids[0] == ids[1]:
        print(f"the same layer sha256:{ids[0]}")
        return 0
    a, b = entries(*one), entries(*two)
    fields = FIELDS
    if arguments.meaning:
        fields = SEEN
        a, b = ({name: entry for name, entry in layer.items() if not name.endswith("/.wh..wh..opq")} for layer in (a, b))
        for layer in (a, b):
            for _, entry, _ in layer.values():
                entry["mode"] &= 0o7777  # older Dockers write the kind of a file into it, too
    lines = []
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            lines.append(f"/{name}: only in the {'second' if name in b else 'first'}")
            continue
        differing = [f"{f} {a[name][1][f]!r} / {b[name][1][f]!r}" for f in fields if a[name][1][f] != b[name][1][f]]
        if a[name][2] != b[name][2]:
            differing.append(first_difference(one, two, name))
        if differing:
            lines.append(f"/{name}: " + "; ".join(differing))
    if arguments.meaning:
        print("\n".join(lines))
        return 1 if lines else 0
    if not lines:
        moved = [name for name in a if a[name][0] != b[name][0]]
        lines = [f"/{name}: in another place of the tar" for name in moved] or ["the same entries in other bytes of tar"]
    for line in lines[: arguments.most]:
        print(line)
    print(f"{len(lines)} of {len(a.keys() | b.keys())} entries differ: sha256:{ids[0]} / sha256:{ids[1]}")
    return 1


sys.exit(main())
