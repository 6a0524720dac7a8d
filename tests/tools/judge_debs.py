#!/usr/bin/env python3
"""What dpkg and apt of this machine say of debs: judge_debs.py FOLDER

Prints `<name>\t<dpkg>\t<apt>\t<dpkg's reason>\t<apt's reason>` for each FOLDER/<name>.deb. A verdict is `takes`, `warns` or `refuses`.

dpkg   lists it, unpacks it with dpkg-deb, and installs it up to its scripts, in an empty root
apt    makes an index of it alone (apt-ftparchive), and a client that knows nothing else updates from that
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

folder = Path(sys.argv[1]).resolve()
work = Path(tempfile.mkdtemp())
work.chmod(0o755)


def run(*command, cwd=None, **environment):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace",
                          env={**os.environ, "LC_ALL": "C", **environment})
    return done.returncode, done.stdout, done.stderr


def reason(text):
    """What a program said, without the places where it worked and what is the same of each."""
    text = re.sub(r"(?:%s|%s)[\w./-]*/(?=control|x\.deb|[\w-]+\.deb)" % (re.escape(str(work)), re.escape(str(folder))), "", text)
    text = re.sub(r"dpkg: error processing archive \S+ \(--unpack\):\n", "", text)
    lines = [re.sub(r"^(dpkg(-deb)?|tar): ((error|warning): )?", "", line.strip()) for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Errors were encountered", "Exiting with failure", "E: Errors apply"))]
    return " / ".join(lines[:2]).replace("\t", " ")[:160]


def dpkg(deb, name):
    # A path with .. stays in the folder of this case.
    root = work / name / "/".join("deep-root-of-a-case")
    for part in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log"]:
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "var/lib/dpkg/available").touch()
    unpacked = root.parent / "unpacked"
    unpacked.mkdir()
    told = ""
    steps = [
        ["dpkg-deb", "--info", str(deb)],
        ["dpkg-deb", "--contents", str(deb)],
        ["dpkg-deb", "-x", str(deb), str(unpacked)],
        ["dpkg", f"--root={root}", "--force-not-root", "--force-depends", "--force-architecture", "--force-unsafe-io", "--force-bad-path",
         "--unpack", str(deb)],
    ]
    for step in steps:
        status, _, errors = run(*step)
        if status != 0:
            return "refuses", f"{' '.join(step[:2]) if step[0] != 'dpkg' else 'dpkg --unpack'}: {reason(errors)}"
        # (What is forced here is no fault of the package.)
        told += "" if "warning: overriding problem" in errors else errors if "warning" in errors else ""
    return ("warns", reason(told)) if told else ("takes", "")


def apt(deb, name):
    place = work / f"{name}-apt"
    for part in ["repo", "lists/partial", "cache/archives/partial", "none"]:
        (place / part).mkdir(parents=True)
    shutil.copy(deb, place / "repo/x.deb")
    (place / "status").touch()
    config = str(place / "apt.conf")
    (place / "apt.conf").write_text(
        f'Dir::Etc::parts "{place}/none";\nDir::Etc::sourcelist "{place}/sources.list";\nDir::Etc::sourceparts "{place}/none";\n'
        f'Dir::Etc::trustedparts "{place}/none";\nDir::Etc::preferencesparts "{place}/none";\nDir::State::lists "{place}/lists";\n'
        f'Dir::State::status "{place}/status";\nDir::Cache "{place}/cache";\nAPT::Architecture "amd64";\nAPT::Architectures:: "amd64";\n'
        'APT::Sandbox::User "root";\nAPT::Update::Error-Mode "any";\nAcquire::Languages "none";\n')
    status, index, told = run("apt-ftparchive", "packages", ".", cwd=place / "repo", APT_CONFIG=config)
    if status != 0 or re.search(r"^E: ", told, re.M) or not index.strip():
        return "refuses", f"apt-ftparchive: {reason(told) or 'says nothing'}"
    (place / "repo/Packages").write_text(index, errors="surrogateescape")
    (place / "sources.list").write_text(f"deb [trusted=yes] file:{place}/repo ./\n")
    status, _, update = run("apt-get", "update", APT_CONFIG=config)
    if status != 0 or re.search(r"^E: ", update, re.M):
        return "refuses", f"apt-get update: {reason(update)}"
    _, known, more = run("apt-cache", "dumpavail", APT_CONFIG=config)
    if not re.search(r"^package: ", known, re.M | re.I):
        return "refuses", f"apt-cache knows no package: {reason(more)}"
    warnings = told + update
    return ("warns", reason(warnings)) if re.search(r"^W: ", warnings, re.M) else ("takes", "")


def judge(deb):
    name = deb.stem
    try:
        return name, *sum(zip(dpkg(deb, name), apt(deb, name)), ())
    finally:
        for place in [work / name, work / f"{name}-apt"]:
            shutil.rmtree(place, ignore_errors=True)


try:
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        for line in pool.map(judge, sorted(folder.glob("*.deb"))):
            print("\t".join(line), flush=True)
finally:
    shutil.rmtree(work, ignore_errors=True)
