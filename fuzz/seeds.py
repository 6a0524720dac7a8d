#!/usr/bin/env python3
"""Writes a few good inputs for each fuzz target: seeds.py CORPUS. What a tool is missing for is left out."""
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

OUT = sys.argv[1]
TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests")


def save(target, name, data):
    os.makedirs(os.path.join(OUT, target), exist_ok=True)
    with open(os.path.join(OUT, target, name), "wb") as file:
        file.write(data)


def tar(members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, kind, value, records in members:
            member = tarfile.TarInfo(name)
            member.type, member.pax_headers = kind, records
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname, value = value, b""
            member.size = len(value)
            made.addfile(member, io.BytesIO(value))
    return out.getvalue()


def layers():
    file, folder, link, hard = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    status = b"Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"
    yield tar([("usr", folder, b"", {}), ("usr/a", file, b"x" * 600, {}), ("b", hard, "usr/a", {}), ("c", link, "usr", {}), ("var/lib/dpkg/status", file, status, {}),
               ("var/lib/dpkg/info/dpkg.list", file, b"/.\n/usr/a\n", {}), ("d/.wh.e", file, b"", {}), ("d/.wh..wh..opq", file, b"", {})])
    yield tar([("n" * 300, file, b"long", {}), ("x", file, b"y", {"SCHILY.xattr.user.x": "v", "mtime": "17.5"})])
    yield tar([("n" * 300, file, b"long", {})], tarfile.GNU_FORMAT)


def packed(layer):
    yield gzip.compress(layer, mtime=0)
    if shutil.which("zstd"):
        yield subprocess.run(["zstd", "-qc"], input=layer, stdout=subprocess.PIPE, check=True).stdout


def archive(layer, blob):
    digest = lambda data: hashlib.sha256(data).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}"]}}).encode()
    named = lambda data: (f"blobs/sha256/{digest(data)}", tarfile.REGTYPE, data, {})
    described = lambda data: {"digest": f"sha256:{digest(data)}", "size": len(data)}
    manifest = json.dumps({"schemaVersion": 2, "config": described(config), "layers": [described(blob)]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [described(manifest)]}).encode()
    docker = json.dumps([{"Config": f"blobs/sha256/{digest(config)}", "RepoTags": ["a:b"], "Layers": [f"blobs/sha256/{digest(blob)}"]}]).encode()
    yield tar([named(config), named(blob), ("manifest.json", tarfile.REGTYPE, docker, {})], tarfile.USTAR_FORMAT)
    yield tar([named(config), named(blob), named(manifest), ("oci-layout", tarfile.REGTYPE, b'{"imageLayoutVersion":"1.0.0"}', {}), ("index.json", tarfile.REGTYPE, index, {})], tarfile.USTAR_FORMAT)


for number, layer in enumerate(layers()):
    save("layer", f"{number}", layer)
    for how in range(3):
        save("layout", f"{number}-{how}", bytes([how]) + layer)
    for pack, blob in enumerate([layer, *packed(layer)]):
        if blob is not layer:
            save("layout", f"{number}-packed-{pack}", b"\3" + blob)
        for form, data in enumerate(archive(layer, blob)):
            save("archive", f"{number}-{pack}-{form}", data)
            save("store", f"{number}-{pack}-{form}", data)
files = os.path.join(TESTS, "dockerfiles")
for name in os.listdir(files):
    if name.endswith(".Dockerfile"):
        with open(os.path.join(files, name), "rb") as file:
            save("dockerfile", name, file.read())
with tempfile.TemporaryDirectory() as work:
    tools = os.path.join(TESTS, "tools")
    for target, tool, needed in (("deb", "mutate_debs.py", "dpkg-deb"), ("rpm", "mutate_rpms.py", "rpmbuild")):
        if shutil.which(needed):
            made = os.path.join(work, target)
            subprocess.run([sys.executable, os.path.join(tools, tool), made, "200", "seed"], check=True)
            for name in os.listdir(made):
                with open(os.path.join(made, name), "rb") as file:
                    save(target, name, file.read())
    if shutil.which("rpmdb"):
        subprocess.run(["rpmdb", "--dbpath", os.path.join(work, "db"), "--initdb"], check=True)
        path = os.path.join(work, "db", "rpmdb.sqlite")
        if os.path.exists(path):
            with open(path, "rb") as file:
                save("rpmdb", "empty", file.read())
