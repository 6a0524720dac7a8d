#!/usr/bin/env python3
"""The second opinion on a runtime image: reads `docker save` output with nothing but Python's own
tar module, shares no code with `twostage audit`, and knows nothing of its rules.

    check_image.py SAVED.tar BASE_LAYERS [--forbid TEXT]... [--key KEY.asc]

Prints one line a finding and exits 1 if there is any.

What may be whiteouts or below /run is the list that the README publishes: an opaque marker in a
folder that the base does not have, and nothing else.
"""
import argparse
import io
import json
import re
import sys
import tarfile

FORBIDDEN_PATHS = [
    (r".*\.(deb|udeb|ddeb|rpm)$", "a package file"),
    (r"var/lib/apt/lists/(?!(partial|auxfiles)/?$|lock$).+", "package lists"),
    (r"var/cache/apt/(?!archives/?$|archives/partial/?$|archives/lock$).+", "a package manager's cache"),
    (r"var/log/.+", "a log"),
    (r"var/cache/ldconfig/aux-cache", "ldconfig's cache"),
    (r"var/lib/dbus/machine-id", "a machine id"),
    (r"etc/apt/(sources\.list|sources\.list\.d/.+|trusted\.gpg.*|keyrings/.+|apt\.conf|apt\.conf\.d/.+)", "apt configuration"),
    (r"(tmp|var/tmp|run|root)/.+", "a temporary, run-time or root's own file"),
    (r"usr/sbin/policy-rc\.d", "the guard against starting services"),
    (r"(.*/)?\.?twostage(/.*)?", "a file of ours"),
    (r".*\.(c|h|dsc|orig\.tar\..*|debian\.tar\..*)$", "a source file"),
]


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("archive")
    parser.add_argument("base_layers", type=int)
    parser.add_argument("--forbid", action="append", default=[])
    parser.add_argument("--key")
    arguments = parser.parse_args()
    config, layers = layers_of(arguments.archive)
    findings = []
    if len(layers) != arguments.base_layers + 1:
        findings.append(f"{len(layers) - arguments.base_layers} layers above the base instead of one")

    # The base: what is below, to tell a file put back as it was from a new one.
    below, listed = {}, set()
    for layer in layers[: arguments.base_layers]:
        for member, name, content in entries_of(layer):
            below[name] = content
    needles = [text.encode() for text in arguments.forbid]
    if arguments.key:
        body = [line for line in open(arguments.key).read().splitlines() if re.fullmatch(r"[A-Za-z0-9+/]{60,}", line)]
        needles += [line.encode() for line in body[:4]]

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
            if b"BEGIN PGP" in content and name not in below and not name.startswith("usr/"):
                findings.append(f"/{name}: a key or signature")

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
