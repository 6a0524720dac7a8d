#!/usr/bin/env python3
"""The judge of a Packages file: apt-ftparchive, over the same debs, stanza by stanza and field by field.

    compare_packages.py PACKAGES FOLDER_OF_DEBS

Prints every field that differs, and one line of JSON with what was compared. Exits 1 if anything
differs. A value is compared to the byte, continuation lines and their blanks included, but for blanks
at its very end, which apt-ftparchive drops. The order of fields is not: apt-ftparchive sorts them.
"""
import hashlib
import json
import os
import subprocess
import sys

# What is left out knowingly, and why.
LEFT_OUT = {
    "Filename": "each keeps its pool in its own place",
    "MD5sum": "we name no digest that is broken",
    "SHA1": "we name no digest that is broken",
    "SHA512": "SHA256 is what by-hash and the snapshot use",
}


def stanzas(text):
    """{(package, version, architecture): {field: value}}"""
    result = {}
    for stanza in text.split("\n\n"):
        fields, last = {}, None
        for line in stanza.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[last] += "\n" + line
            elif line:
                last, value = line.split(":", 1)
                if last in fields:
                    sys.exit(f"the field {last} is there twice:\n{stanza}")
                fields[last] = value.lstrip(" \t")
        if fields:
            key = tuple(fields.get(name, "") for name in ("Package", "Version", "Architecture"))
            if key in result:
                sys.exit(f"{key} is there twice")
            result[key] = fields
    return result


def main():
    packages, folder = sys.argv[1:]
    ours = stanzas(open(packages, encoding="utf-8", newline="\n").read())
    done = subprocess.run(["apt-ftparchive", "packages", "."], cwd=folder, capture_output=True, check=True, env=os.environ | {"LC_ALL": "C"})
    # A carriage return at the end of a line is no part of it: we leave it out, apt-ftparchive passes it on.
    theirs = stanzas(done.stdout.decode().replace("\r\n", "\n"))
    wrong, compared, names = [], 0, {}
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in ours or key not in theirs:
            wrong.append(f"{key}: only in {'ours' if key in ours else 'apt-ftparchive'}")
            continue
        a, b = ours[key], theirs[key]
        for name in sorted(a.keys() | b.keys()):
            if name in LEFT_OUT:
                continue
            compared += 1
            names[name] = names.get(name, 0) + 1
            if name not in a or name not in b or a[name].rstrip(" \t") != b[name].rstrip(" \t"):
                wrong.append(f"{' '.join(key)}: {name}\n  ours  {a.get(name)!r}\n  apt's {b.get(name)!r}")
        # apt-ftparchive's word for the file is not needed: here is the file.
        path = os.path.join(folder, b["Filename"])
        content = open(path, "rb").read()
        if a.get("Size") != str(len(content)) or a.get("SHA256") != hashlib.sha256(content).hexdigest():
            wrong.append(f"{' '.join(key)}: Size or SHA256 is not the file's")
        if a.get("SHA256", "?") not in a.get("Filename", ""):
            wrong.append(f"{' '.join(key)}: Filename {a.get('Filename')!r} does not name the content")
        extra = sorted(a.keys() & (LEFT_OUT.keys() - {"Filename"}))
        if extra:
            wrong.append(f"{' '.join(key)}: has {extra}, which is said to be left out")
    print("\n".join(wrong), file=sys.stderr)
    print(json.dumps({"stanzas": len(ours), "fields": compared, "names": names, "left_out": LEFT_OUT, "differences": len(wrong)}))
    sys.exit(1 if wrong else 0)


main()
