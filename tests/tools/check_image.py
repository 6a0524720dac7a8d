#!/usr/bin/env python3
"""The second opinion on a runtime image: reads `docker save` output with nothing but Python's own
tar and sqlite3 modules, shares no code with `twostage audit`, and knows nothing of its rules.

    check_image.py SAVED.tar BASE_LAYERS [--forbid TEXT]... [--key KEY.asc] [--made-base]

Prints one line a finding and exits 1 if there is any. KEY.asc is an armored RSA key: neither its armor's lines
nor its own bytes may be anywhere, in the base neither. --made-base: the base is of our making, too, so that it may
have no package files, lists, caches, logs and ids either (but logs that are empty, as packages make them).

What may be whiteouts or below /run is the list that the README publishes: an opaque marker in a
folder that the base does not have, and nothing else.

Where there is an rpm database (sqlite), every file above the base must be in a file list of an
installed package (dpkg's or rpm's), a file that an rpm brought must have the digest that the rpm
states, and no key may be in the database or in what SQLite left of erased rows. What else may be
there is the short list GENERATED: far shorter than the product's rules, as the tests' packages are few.
"""
import argparse
import base64
import hashlib
import io
import json
import re
import sqlite3
import struct
import sys
import tarfile
import tempfile

FORBIDDEN_PATHS = [
    (r".*\.(deb|udeb|ddeb|rpm)$", "a package file"),
    (r"var/lib/apt/lists/(?!(partial|auxfiles)/?$|lock$).+", "package lists"),
    (r"var/cache/apt/(?!archives/?$|archives/partial/?$|archives/lock$).+", "a package manager's cache"),
    (r"var/log/.+", "a log"),
    (r"var/cache/ldconfig/aux-cache", "ldconfig's cache"),
    (r"var/lib/dbus/machine-id", "a machine id"),
    (r"etc/apt/(sources\.list|sources\.list\.d/.+|trusted\.gpg.*|keyrings/.+|apt\.conf|apt\.conf\.d/.+)", "apt configuration"),
    (r"(tmp|var/tmp|run|root)/.+", "a temporary, run-time or root's own file"),
    (r"var/cache/(dnf|yum|libdnf5|zypp|zypper)/.+", "a package manager's cache"),
    (r"var/lib/(dnf/history.*|dnf/repos/.+|yum/.+|zypp/AnonymousUniqueId|rpm-state/.+)", "a package manager's state"),
    (r".*/transaction_history\.sqlite.*", "a package manager's history"),
    (r"(etc/yum\.repos\.d|etc/zypp/(repos|services|credentials)\.d|etc/pki/rpm-gpg)/.+", "a package source or its key"),
    (r"(usr/lib/sysimage|var/lib)/rpm/(rpmdb\.sqlite-.*|\..*lock|__db\..*|pubkeys/.+)", "rpm's working file"),
    (r".*\.(rpmnew|rpmsave|rpmorig)$", "left by rpm"),
    (r"usr/sbin/policy-rc\.d", "the guard against starting services"),
    (r"(.*/)?\.?twostage(/.*)?", "a file of ours"),
    (r".*\.(c|h|dsc|orig\.tar\..*|debian\.tar\..*)$", "a source file"),
]


# What a base of our making has for its own reasons.
OF_A_BASE = {"apt configuration", "a package source or its key", "a source file"}


def pieces_of_key(path):
    """(lines of the armor, pieces of what is in it)."""
    text = open(path).read()
    body = [line for line in text.splitlines() if re.fullmatch(r"[A-Za-z0-9+/]+=*", line)]
    packets = base64.b64decode("".join(body))
    # RFC 9580, 4.2 and 5.5.2: the public key packet, whose number n has 512 bytes, is the first.
    if packets[:1] != b"\xc6" or len(packets) < 528:
        sys.exit(f"{path} is no RSA key of 4096 bits, as this program looks for")
    return [line.encode() for line in body if len(line) >= 60][:4], [packets[at : at + 48] for at in range(16, 496, 48)]


def layers_of(path):
    """(config, [layer bytes]) of a docker archive."""
    members = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg():
                members[member.name] = archive.extractfile(member).read()
            elif member.issym():
                members[member.name] = ("link", member.linkname)
    def get(name):
        seen = 0
        while isinstance(members[name], tuple):
            parts = name.split("/")[:-1]
            for part in members[name][1].split("/"):
                parts = parts[:-1] if part == ".." else parts + [part]
            name = "/".join(parts)
            seen += 1
            if seen > 8:
                sys.exit("links in a circle in the archive")
        return members[name]
    manifest = json.loads(get("manifest.json"))[0]
    return json.loads(get(manifest["Config"])), [get(name) for name in manifest["Layers"]]


def entries_of(layer):
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            content = tar.extractfile(member).read() if member.isreg() else b""
            yield member, re.sub(r"^(\./)+", "", member.name).strip("/"), content


RPM_DATABASES = ["usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"]

# What may be above the base of an rpm image although no package has it.
GENERATED = [
    r"(usr/lib/sysimage|var/lib)/rpm/rpmdb\.sqlite",
    r"var/lib/dpkg/.*",
    r"var/lib/apt/extended_states",
    r"var/cache/debconf/.*",
    r"(usr/lib/sysimage/libdnf5|var/lib/dnf/system)/[a-z]+\.toml",
    r"var/lib/zypp/AutoInstalled",
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-?",
    r"etc/(ld\.so\.cache|shells|machine-id|\.pwd\.lock)",
    r"etc/pki/ca-trust/extracted/.*",
    r"home/[^/]+(/\..*)?",
]


def rpm_header(blob):
    """{tag: values} of a header without its magic."""
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * entries
    data = blob[start : start + size]
    tags = {}
    for number in range(entries):
        tag, kind, offset, count = struct.unpack_from(">IIII", blob, 8 + 16 * number)
        if kind in (2, 3, 4, 5):
            tags[tag] = list(struct.unpack_from(">%d%s" % (count, {2: "B", 3: "H", 4: "I", 5: "Q"}[kind]), data, offset))
        elif kind in (6, 8, 9):
            tags[tag] = data[offset:].split(b"\0", count)[:count]
        elif kind == 7:
            tags[tag] = [data[offset : offset + count]]
    return tags


def rpm_database(content):
    """({path: [(mode, flags, digest or None, link)]}, [names of keys], [headers])"""
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as file:
        file.write(content)
        file.flush()
        database = sqlite3.connect(f"file:{file.name}?mode=ro&immutable=1", uri=True)
        if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            sys.exit("the rpm database is damaged, says SQLite")
        blobs = [blob for (blob,) in database.execute("SELECT blob FROM Packages ORDER BY hnum")]
        database.close()
    owned, keys = {}, []
    for blob in blobs:
        tags = rpm_header(blob)
        name = tags[1000][0].decode()
        if name == "gpg-pubkey":
            keys.append("-".join([name, tags[1001][0].decode(), tags[1002][0].decode()]))
        sha256 = tags.get(5011, [1])[0] == 8
        for index, (folder, base) in enumerate(zip(tags.get(1116, []), tags.get(1117, []))):
            path = (tags[1118][folder] + base).decode("utf-8", "surrogateescape").strip("/")
            verify = tags[1045][index] if 1045 in tags else 0xFFFFFFFF
            digest = tags[1035][index].decode() if sha256 and 1035 in tags and verify & 1 else ""
            owned.setdefault(path, []).append((tags[1030][index], tags[1037][index], digest or None, tags[1036][index]))
    return owned, keys, blobs


def rpm_findings(below, layers):
    """What the rpm database has to say of the entries above the base; nothing where there is none."""
    merged, links = dict(below), {}
    for layer in layers:
        for member, name, content in layer:
            if member.issym():
                links[name] = member.linkname
            merged[name] = content
    path = next((path for path in RPM_DATABASES if merged.get(path)), None)
    if path is None:
        return
    for ending in ["-wal", "-journal"]:
        if merged.get(path + ending):
            yield f"/{path}{ending}: changes that the rpm database does not have"
    owned, keys, blobs = rpm_database(merged[path])
    base_keys, base_bytes = [], below.get(path, b"")
    if base_bytes:
        base_keys = rpm_database(base_bytes)[1]
    for key in keys:
        if key not in base_keys:
            yield f"/{path}: holds the key {key}"
    marker = b"-----BEGIN PGP PUBLIC KEY BLOCK"
    if not keys and merged[path].count(marker) > max(base_bytes.count(marker), sum(blob.count(marker) for blob in blobs)):
        yield f"/{path}: holds the bytes of an erased key"
    listed = set()
    for name, content in merged.items():
        if re.fullmatch(r"var/lib/dpkg/info/[^/]+\.list", name):
            listed.update(line.strip("/") for line in content.decode("utf-8", "surrogateescape").splitlines())
    # A path below a merged folder (lib, bin) is written either way in a list.
    for name in list(owned) + list(listed):
        if re.match(r"(lib\w*|bin|sbin)/", name):
            if name in owned:
                owned.setdefault("usr/" + name, []).extend(owned[name])
            else:
                listed.add("usr/" + name)
    for layer in layers:
        for member, name, content in layer:
            if not name or member.isdir() or name.split("/")[-1].startswith(".wh."):
                continue
            if below.get(name) == content and name in below:
                continue
            if member.islnk():
                content = merged.get(re.sub(r"^(\./)+", "", member.linkname).strip("/"), b"")
            if name in owned:
                allowed = []
                for mode, flags, digest, link in owned[name]:
                    if flags & (1 | 64) or (mode & 0o170000 == 0o100000 and digest is None):
                        allowed.append(True)
                    elif mode & 0o170000 == 0o120000:
                        allowed.append(member.issym() and member.linkname.encode() == link)
                    else:
                        allowed.append(not member.issym() and hashlib.sha256(content).hexdigest() == digest)
                if not any(allowed):
                    yield f"/{name}: not what the rpm brought"
            elif name not in listed and not any(re.fullmatch(pattern, name) for pattern in GENERATED):
                yield f"/{name}: no package has it"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("archive")
    parser.add_argument("base_layers", type=int)
    parser.add_argument("--forbid", action="append", default=[])
    parser.add_argument("--key")
    parser.add_argument("--made-base", action="store_true")
    arguments = parser.parse_args()
    config, layers = layers_of(arguments.archive)
    findings = []
    if len(layers) != arguments.base_layers + 1:
        findings.append(f"{len(layers) - arguments.base_layers} layers above the base instead of one")

    needles = [text.encode() for text in arguments.forbid]
    pieces = []
    if arguments.key:
        lines, pieces = pieces_of_key(arguments.key)
        needles += lines

    # The base: what is below, to tell a file put back as it was from a new one.
    below = {}
    for layer in layers[: arguments.base_layers]:
        for member, name, content in entries_of(layer):
            below[name] = content
            if any(needle in content for needle in needles) or any(piece in content for piece in pieces):
                findings.append(f"/{name}: what is forbidden or of the key, in the base")
            if not arguments.made_base or member.isdir() or name.startswith("root/"):
                continue
            for pattern, what in FORBIDDEN_PATHS:
                if re.fullmatch(pattern, name) and what not in OF_A_BASE and not (what == "a log" and not content):
                    findings.append(f"/{name}: {what}, in the base")
            if name == "etc/machine-id" and content.strip() not in (b"", b"uninitialized"):
                findings.append("/etc/machine-id: has content, in the base")

    for layer in layers[arguments.base_layers :]:
        for member, name, content in entries_of(layer):
            last = name.split("/")[-1]
            if last.startswith(".wh."):
                folder = name.rsplit("/", 1)[0]
                if last != ".wh..wh..opq" or folder in below:
                    findings.append(f"/{name}: a whiteout")
                continue
            same = below.get(name) == content and not member.isdir()
            for pattern, what in FORBIDDEN_PATHS:
                if re.fullmatch(pattern, name) and not member.isdir() and not same:
                    findings.append(f"/{name}: {what}")
            if member.isdir() and re.fullmatch(r"(tmp|var/tmp|run)/.+", name) and name not in below:
                findings.append(f"/{name}: a folder that is not the base's")
            if name == "etc/machine-id" and content.strip() not in (b"", b"uninitialized"):
                findings.append("/etc/machine-id: has content")
            for needle in needles:
                if needle in content:
                    findings.append(f"/{name}: contains {needle[:40]!r}")
            if any(piece in content for piece in pieces):
                findings.append(f"/{name}: contains bytes of the key")
            if b"BEGIN PGP" in content and name not in below and not name.startswith("usr/"):
                findings.append(f"/{name}: a key or signature")

    findings += rpm_findings(below, [list(entries_of(layer)) for layer in layers[arguments.base_layers :]])

    text = json.dumps(config)
    for needle in needles:
        if needle.decode(errors="replace") in text:
            findings.append(f"config or history: contains {needle[:40]!r}")
    for pattern in [r"BEGIN PGP", r"https?://(127\.|localhost|0\.0\.0\.0|10\.|172\.|192\.168\.|\[)", r"http_proxy=\S*[0-9]"]:
        if re.search(pattern, text):
            findings.append(f"config or history: matches {pattern}")
    for finding in sorted(set(findings)):
        print(finding)
    print(f"checked {len(layers) - arguments.base_layers} layer(s) above the base: {len(findings)} finding(s)")
    sys.exit(1 if findings else 0)


main()
