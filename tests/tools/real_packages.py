#!/usr/bin/env python3
"""A folder of real packages of the distribution, as this host's apt knows it.

    real_packages.py FOLDER COUNT

Chooses COUNT small packages, always the same ones while the mirror has the same: some with every kind
of field and version that is rare, the others in the order of their names' digests. They are downloaded
by `apt-get download` into FOLDER/cache, which is kept; those that FOLDER/cache has are not fetched
again. FOLDER/debs is made of it: every tenth package is packed again, by dpkg-deb, with gzip,
zstd or nothing, because Debian's own are all xz. Tests of several programs read it at the same time, so
that it is made by one of them, and stays as long as it would be made of the same packages.

Prints one line of JSON. Exits 77 if the mirror cannot be reached and the cache is not enough.
"""
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from urllib.parse import quote

FOLDER, COUNT = sys.argv[1], int(sys.argv[2])
LARGEST = 160_000
USUAL = set(
    "Package Version Installed-Size Maintainer Architecture Description Description-md5 Section Priority Filename Size MD5sum SHA256 "
    "Homepage Depends Source Tag Multi-Arch Provides Suggests Recommends Replaces Breaks Conflicts Enhances Ruby-Versions".split()
)


def stanzas():
    text = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^([^\s:]+):[ \t]*(.*)$", stanza, re.M))
        if fields.get("Filename", "").startswith("pool/main/") and int(fields["Size"]) <= LARGEST:
            yield fields, stanza


def choose():
    """{file name in the cache: name=version}"""
    known = {}
    for fields, stanza in stanzas():
        known.setdefault(fields["Package"], (fields, stanza))
    order = sorted(known, key=lambda name: hashlib.sha256(name.encode()).digest())
    rare = {
        "epoch": lambda fields, _: ":" in fields["Version"],
        "built-using": lambda fields, _: "Built-Using" in fields,
        "pre-depends": lambda fields, _: "Pre-Depends" in fields,
        "not ascii": lambda _, stanza: not stanza.isascii(),
        "all": lambda fields, _: fields["Architecture"] == "all",
        "essential": lambda fields, _: "Essential" in fields,
        "alternatives": lambda fields, _: "|" in fields.get("Depends", ""),
        "conflicts": lambda fields, _: "Conflicts" in fields,
        "rare field": lambda fields, _: not USUAL.issuperset(fields),
    }
    chosen = []
    for wanted in rare.values():
        chosen += [name for name in order if wanted(*known[name]) and name not in chosen][: COUNT // 20]
    chosen += [name for name in order if name not in set(chosen)][: COUNT - len(chosen)]
    files = {}
    for name in chosen:
        fields = known[name][0]
        # As apt-get download names it.
        files[f"{name}_{quote(fields['Version'], safe='+~')}_{fields['Architecture']}.deb"] = f"{name}={fields['Version']}"
    return files


def main():
    cache, debs = os.path.join(FOLDER, "cache"), os.path.join(FOLDER, "debs")
    os.makedirs(cache, exist_ok=True)
    turn = open(os.path.join(FOLDER, "lock"), "w", encoding="utf-8")
    fcntl.flock(turn, fcntl.LOCK_EX)
    there = sorted(os.listdir(cache))
    fetched = 0
    if len(there) < COUNT:
        wanted = choose()
        missing = [package for file, package in wanted.items() if file not in there]
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "download", "--quiet", *missing]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True) if missing else None
        there = sorted(name for name in os.listdir(cache) if name.endswith(".deb"))
        fetched = len(missing)
        if len(there) < COUNT:
            print(f"only {len(there)} of {COUNT} packages can be had: {done.stderr if done else 'apt knows no more'}", file=sys.stderr)
            sys.exit(77)
    there = there[:COUNT]
    # What is there, and what was said of it: written when all of it is there.
    stamp = os.path.join(FOLDER, "made.json")
    try:
        with open(stamp, encoding="utf-8") as file:
            made = json.load(file)
    except (OSError, ValueError):
        made = {}
    if made.get("files") == there and sorted(os.listdir(debs)) == there:
        print(json.dumps(made["said"] | {"fetched": fetched}))
        return
    if os.path.exists(stamp):
        os.unlink(stamp)
    shutil.rmtree(debs, ignore_errors=True)
    os.makedirs(debs)
    packed = {"xz": 0, "gzip": 0, "zstd": 0, "none": 0}
    for index, name in enumerate(there):
        source, target = os.path.join(cache, name), os.path.join(debs, name)
        how = ["gzip", "zstd", "none"][index // 10 % 3] if index % 10 == 0 else "xz"
        packed[how] += 1
        if how == "xz":
            os.link(source, target)
            continue
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            tree = os.path.join(folder, "tree")
            subprocess.run(["dpkg-deb", "-R", source, tree], check=True)
            command = ["dpkg-deb", f"-Z{how}", "-z1", "-b", tree, target]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"})
    total = sum(os.path.getsize(os.path.join(debs, name)) for name in there)
    said = {"packages": len(there), "fetched": fetched, "bytes": total, "packed": packed}
    with open(stamp, "w", encoding="utf-8") as file:
        json.dump({"files": there, "said": said}, file)
    print(json.dumps(said))


main()
