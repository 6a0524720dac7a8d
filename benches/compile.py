#!/usr/bin/env python3
"""Measures `twostage compile` against `docker build`, in one run on one machine: benches/compile.py [--runs 3] [--megabytes 200]

A Dockerfile that ADDs a big installer, runs it, which keeps a small part, and deletes it; once as a file of the context
and once as an archive that ADD unpacks. Each row is the size above the base (the layers, as tars), the median time, and
the median time of a second run with nothing changed. The first run has no cache. Nothing here fails for being slow.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TWOSTAGE = os.path.join(ROOT, "target/release/twostage")
BASE, IMAGE = "bench-compile-base", "bench-compile"
# The installer is its own payload: what is installed is its first twentieth.
INSTALL = "dd if={0} of=/opt/installed bs=1M count={1} && rm -r {0}"
FILES = {
    "a file": "FROM {base}\nWORKDIR /opt\nADD installer /tmp/installer\nRUN " + INSTALL.format("/tmp/installer", "{part}") + "\n",
    "an archive": "FROM {base}\nWORKDIR /opt\nADD installer.tar.gz /tmp/\nRUN " + INSTALL.format("/tmp/installer", "{part}") + "\n",
}


def run(*command, **environment):
    done = subprocess.run(command, env={**os.environ, "NO_COLOR": "1", **environment}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def write_installer(folder, megabytes):
    """Bytes that nothing makes smaller, the same in each run."""
    source = random.Random(1)
    with open(os.path.join(folder, "installer"), "wb") as file:
        for _ in range(megabytes):
            file.write(source.randbytes(1 << 20))
    with tarfile.open(os.path.join(folder, "installer.tar.gz"), "w:gz", compresslevel=1) as tar:
        tar.add(os.path.join(folder, "installer"), "installer")


class Way:
    """A builder, and where its images are."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.environment = {"XDG_CACHE_HOME": os.path.join(folder, "cache"), "TWOSTAGE_STORE": os.path.join(folder, "store")}

    def build(self, context, no_cache):
        more = ["--no-cache"] if no_cache else []
        if self.name == "docker build":
            run("docker", "build", "--force-rm", "--network=none", "--tag", IMAGE, *more, context)
        else:
            engine = self.name.rpartition(" ")[2]
            run(TWOSTAGE, "compile", "--engine", engine, "--network", "none", "--tag", IMAGE, *more, context, **self.environment)

    def above(self):
        """Bytes of the layers above the base's one, as tars."""
        archive = os.path.join(self.folder, "image.tar")
        if self.name.endswith("embedded"):
            store = os.path.join(self.folder, "store/images")
            run("skopeo", "copy", "--quiet", f"oci:{store}:{IMAGE}:latest", f"docker-archive:{archive}:{IMAGE}:latest")
        else:
            run("docker", "save", "--output", archive, IMAGE)
        with tarfile.open(archive) as tar:
            layers = json.load(tar.extractfile("manifest.json"))[0]["Layers"]
            sizes = [len_of(tar, name) for name in layers]
        os.remove(archive)
        return sum(sizes[1:])


def len_of(tar, name):
    """Docker's archives have a layer that is there twice once, and a link."""
    member = tar.getmember(name)
    while member.issym():
        member = tar.getmember(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
    return member.size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=200, help="of the installer; a twentieth of it is installed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = [Way(name, folder) for name in ("docker build", "compile, docker", "compile, embedded")]
        context = os.path.join(folder, "context")
        os.mkdir(context)
        write_installer(context, options.megabytes)
        # The same base, in Docker and in the embedded engine.
        run(os.path.join(ROOT, "tests/tools/small_base.sh"), BASE)
        base = os.path.join(folder, "base")
        os.mkdir(base)
        run(os.path.join(ROOT, "tests/tools/small_base.sh"), "--tar", os.path.join(base, "base.tar"))
        with open(os.path.join(base, "Dockerfile"), "w", encoding="utf-8") as text:
            text.write("FROM scratch\nADD base.tar /\nENV PATH=/bin:/usr/bin\n")
        run(TWOSTAGE, "compile", "--engine", "embedded", "--tag", BASE, base, **ways[2].environment)
        found = {}
        for case, text in FILES.items():
            with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
                file.write(text.format(base=BASE, part=max(1, options.megabytes // 20)))
            with open(os.path.join(context, ".dockerignore"), "w", encoding="utf-8") as file:
                file.write("installer.tar.gz\n" if case == "a file" else "installer\n")
            for _ in range(options.runs):
                for way in ways:
                    # (Else what had the name before stays, and is large.)
                    subprocess.run(["docker", "image", "rm", "--force", IMAGE], capture_output=True, check=False)
                    first = timed(lambda way=way: way.build(context, True))
                    second = timed(lambda way=way: way.build(context, False))
                    found.setdefault((case, way.name), []).append((way.above(), first, second))
        for name in (IMAGE, BASE):
            subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)
    version = run("docker", "version", "--format", "{{.Server.Version}}").strip()
    print(f"an installer of {options.megabytes} MB, of which a twentieth is installed; docker {version}")
    print(f"{'':32}{'above the base':>16}{'ratio':>8}{'time':>10}{'ratio':>8}{'nothing changed':>18}")
    for case in FILES:
        size, spent, _ = (statistics.median(values) for values in zip(*found[case, "docker build"]))
        for way in ("docker build", "compile, docker", "compile, embedded"):
            above, first, second = (statistics.median(values) for values in zip(*found[case, way]))
            print(
                f"{case + ': ' + way:32}{above / 1e6:13.1f} MB{above / size:8.3f}{first:8.2f} s{first / spent:8.2f}{second:16.2f} s"
            )


main()
