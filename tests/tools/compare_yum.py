#!/usr/bin/env python3
"""Compares two repodata folders field by field and names every field that differs.

usage: compare_yum.py OURS THEIRS [--ignore FIELD]... [--extra NAME]...

OURS and THEIRS are folders with a repomd.xml. Packages are matched by pkgid, the digest of the file.
Compared: for each package every element and attribute of primary, filelists and other, lists in
their order; and that repomd.xml tells the truth of each file, packed (.gz, .zst) and unpacked.
Compared in part: location/@href by its last part, the file's name, because in which folder a file
lies is each repository's own business. Not compared: what repomd.xml says of itself (its revision and
times, and how its files are packed).
What is equal says nothing about a field that was given to THEIRS and not found by it. createrepo_c takes two
from the file system: time/@file is the file's time of modification, and location/@href its name. Whoever
calls this must give the files of THEIRS both from something else than OURS, for instance from `rpm -qp`.
FIELD is left out as it is printed, for instance primary/time/@file. NAME is a package that only
OURS has: createrepo_c leaves out what has control characters.
Exit status 0 when all is equal, 1 when not, 2 when a folder cannot be read.
"""
import gzip
import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET


def short(tag):
    space, _, name = tag.rpartition("}")
    return ("rpm:" if space.endswith("/rpm") else "") + name


def unpacked(name, packed):
    if name.endswith(".gz"):
        return gzip.decompress(packed)
    if name.endswith(".zst"):
        return subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout
    return packed


def load(folder):
    """kind -> the parsed file, after a look at what repomd.xml says of it."""
    found = {}
    root = ET.parse(os.path.join(folder, "repomd.xml")).getroot()
    for data in root:
        if short(data.tag) != "data":
            continue
        said = {short(child.tag): child for child in data}
        href = said["location"].get("href")
        with open(os.path.join(folder, os.path.basename(href)), "rb") as file:
            packed = file.read()
        opened = unpacked(href, packed)
        for name, body, size in (("checksum", packed, "size"), ("open-checksum", opened, "open-size")):
            digest = hashlib.new(said[name].get("type"), body).hexdigest()
            if digest != said[name].text or len(body) != int(said[size].text):
                raise ValueError(f"{folder}: repomd.xml lies about {href}")
        if opened[:1] == b"<":
            found[data.get("type")] = ET.fromstring(opened)
    return found


def fields(element, path, out):
    """Every attribute and text below an element as (field, value), in order."""
    for name, value in sorted(element.attrib.items()):
        if path.endswith("/location") and name == "href":
            value = os.path.basename(value)
        out.append((f"{path}/@{short(name)}", value))
    text = element.text or ""
    if len(element) == 0 and element.attrib:
        # What belongs together, in one: that `pre` stands at the right entry.
        out.append((f"{path} (whole)", repr((out[-len(element.attrib):], text))))
    if len(element) == 0 and text:
        out.append((path, text))
    elif len(element) == 0 and not element.attrib:
        out.append((path, ""))
    for child in element:
        fields(child, f"{path}/{short(child.tag)}", out)


def packages(kind, root):
    found = {}
    for package in root:
        digest = package.get("pkgid")
        if digest is None:
            digest = next(child.text for child in package if short(child.tag) == "checksum")
        out = []
        fields(package, kind, out)
        name = package.get("name") or next(child.text for child in package if short(child.tag) == "name")
        if digest in found:
            raise ValueError(f"{kind}: {name} is there twice")
        found[digest] = (name, out)
    if int(root.get("packages")) != len(found):
        raise ValueError(f"{kind}: says {root.get('packages')} packages, and has {len(found)}")
    return found


def grouped(listed, ignored):
    found = {}
    for field, value in listed:
        if field not in ignored:
            found.setdefault(field, []).append(value)
    return found


def main():
    arguments, ignored, extra = [], set(), set()
    rest = iter(sys.argv[1:])
    for word in rest:
        if word == "--ignore":
            ignored.add(next(rest))
        elif word == "--extra":
            extra.add(next(rest))
        else:
            arguments.append(word)
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        ours, theirs = (load(folder) for folder in arguments)
        differences, compared, values = {}, 0, 0
        for kind in ("primary", "filelists", "other"):
            left, right = packages(kind, ours[kind]), packages(kind, theirs[kind])
            for digest in sorted(left.keys() ^ right.keys()):
                name = (left.get(digest) or right.get(digest))[0]
                side = "ours" if digest in left else "theirs"
                if side == "ours" and name in extra:
                    continue
                differences.setdefault(f"{kind}: a package that only one has", []).append(f"{name} {digest} only in {side}")
            for digest in sorted(left.keys() & right.keys()):
                name, compared = left[digest][0], compared + 1
                one, two = grouped(left[digest][1], ignored), grouped(right[digest][1], ignored)
                for field in sorted(one.keys() | two.keys()):
                    a, b = one.get(field, []), two.get(field, [])
                    values += len(a)
                    if a != b:
                        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                        shown = [repr(v[at])[:120] if at < len(v) else "nothing" for v in (a, b)]
                        differences.setdefault(field, []).append(f"{name}[{at}] of {len(a)}/{len(b)}: {shown[0]} / {shown[1]}")
    except (OSError, ValueError, KeyError, ET.ParseError, subprocess.CalledProcessError) as error:
        print(f"compare_yum.py: {error}", file=sys.stderr)
        return 2
    for field, where in sorted(differences.items()):
        print(f"{field}: {len(where)} differ, for instance")
        for line in where[:5]:
            print(f"    {line}")
    print(f"{compared} descriptions, {values} values compared, {sum(map(len, differences.values()))} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
