#!/usr/bin/env python3
"""Measures twostage against its peers, in one run on one machine: benches/run.py [--packages N]

Each row is a ratio: our time over the peer's, medians of several runs, page cache warm. A peer that is
not installed is named and left out. Nothing here fails for being slow.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TWOSTAGE = os.path.join(ROOT, "target/release/twostage")
PROJECT = '[project]\nname = "bench"\n[base]\nbootstrap = "debian:bookworm"\n'


def clock(command, **options):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    return time.monotonic() - start


def median(measure, runs=5):
    return statistics.median(measure() for _ in range(runs))


def row(name, ours, peer, theirs):
    print(f"| {name} | {ours:.3f} s | {peer} {theirs:.3f} s | {ours / theirs:.2f} |")


def publish(count):
    folder = os.path.join(ROOT, "target/tmp/real-packages")
    chosen = subprocess.run([os.path.join(ROOT, "tests/tools/real_packages.py"), folder, str(count)], check=True, capture_output=True)
    chosen = json.loads(chosen.stdout)
    debs = sorted(os.path.join(folder, "debs", name) for name in os.listdir(os.path.join(folder, "debs")))
    print(f"{len(debs)} real packages, {chosen['bytes'] / 1e6:.0f} MB\n")
    print("| publish | twostage | peer | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        project = os.path.join(work, "project")
        state = os.path.join(project, ".twostage")

        def fresh():
            shutil.rmtree(project, ignore_errors=True)
            os.mkdir(project)
            with open(os.path.join(project, "twostage.toml"), "w") as file:
                file.write(PROJECT)
            # The key is made once a repository; that is not what is measured here.
            clock([TWOSTAGE, "--project", project, "publish", debs[0]])

        def ours_full():
            fresh()
            return clock([TWOSTAGE, "--project", project, "publish", *debs[:-1]])

        def ours_one():
            fresh()
            clock([TWOSTAGE, "--project", project, "publish", *debs[:-1]])
            return clock([TWOSTAGE, "--project", project, "publish", debs[-1]])

        def ours_same():
            return clock([TWOSTAGE, "--project", project, "publish", *debs])

        index = os.path.join(work, "Packages")
        database = os.path.join(work, "cache.db")
        debs_folder = os.path.dirname(debs[0])

        def ftparchive(*options):
            with open(index, "w") as out:
                start = time.monotonic()
                subprocess.run(["apt-ftparchive", *options, "packages", debs_folder], check=True, stdout=out, stderr=subprocess.DEVNULL)
                return time.monotonic() - start

        def unpack():
            start = time.monotonic()
            for deb in debs:
                subprocess.run(f"dpkg-deb --fsys-tarfile '{deb}' > /dev/null", shell=True, check=True)
            return time.monotonic() - start

        full = median(ours_full, 3)
        row("all new; every payload unpacked and checked", full, "dpkg-deb --fsys-tarfile of each", median(unpack, 3))
        row("all new", full, "apt-ftparchive, sha256 only, no payload read", median(lambda: ftparchive("--md5=no", "--sha1=no", "--sha512=no")))
        one = median(ours_one, 3)
        ftparchive("--db", database)
        row("one more", one, "apt-ftparchive, warm database", median(lambda: ftparchive("--db", database)))
        if shutil.which("reprepro"):
            base = os.path.join(work, "reprepro")
            os.makedirs(os.path.join(base, "conf"))
            with open(os.path.join(base, "conf/distributions"), "w") as file:
                file.write("Codename: main\nArchitectures: amd64\nComponents: main\n")
            clock(["reprepro", "-b", base, "--section", "misc", "--priority", "optional", "includedeb", "main", *debs[:-1]])
            row("one more", one, "reprepro, unsigned", clock(["reprepro", "-b", base, "includedeb", "main", debs[-1]]))
        else:
            print("| (reprepro is not installed) | | | |")
        row("nothing new", median(ours_same), "apt-ftparchive, warm database", median(lambda: ftparchive("--db", database)))


def flow():
    """No change, against the engine's own no-change path: a multi-stage Dockerfile of the same example."""
    example = os.path.join(ROOT, "examples/hello")
    with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "target")) as work:
        project = os.path.join(work, "hello")
        shutil.copytree(example, project, ignore=shutil.ignore_patterns(".twostage"))
        with open(os.path.join(project, "twostage.toml")) as file:
            text = file.read().replace("[runtime.hello]", "[runtime.twostage-bench]")
        with open(os.path.join(project, "twostage.toml"), "w") as file:
            file.write(text)
        run = [TWOSTAGE, "--project", project]
        cold = clock([*run, "repo"]) + clock([*run, "runtime"])
        same = median(lambda: clock([*run, "repo"]) + clock([*run, "runtime"]))
        with open(os.path.join(project, "twostage.lock")) as file:
            digest = next(line for line in file if line.startswith("digest = "))[10:22]
        with open(os.path.join(project, "Dockerfile"), "w") as file:
            file.write(
                f"FROM twostage-base:{digest} AS build\n"
                "RUN apt-get update && apt-get install -y --no-install-recommends build-essential debhelper libyaml-dev\n"
                "COPY libgreet /build/libgreet\nRUN cd /build/libgreet && dpkg-buildpackage -b -us -uc && dpkg -i ../libgreet*.deb\n"
                "COPY greet /build/greet\nRUN cd /build/greet && dpkg-buildpackage -b -us -uc && mkdir /out && cp /build/*.deb /out\n"
                f"FROM twostage-base:{digest}\nCOPY --from=build /out /packages\n"
                "RUN apt-get update && apt-get install -y --no-install-recommends /packages/greet_*.deb /packages/libgreet1_*.deb\n"
            )
        docker = ["docker", "build", "--network=host", "-t", "twostage-bench-multistage", project]
        docker_cold, docker_same = clock([*docker[:2], "--no-cache", *docker[2:]]), median(lambda: clock(docker))
        print("\n| examples/hello | twostage | peer | ratio |\n|---|---|---|---|")
        row("all built (ours also makes the base)", cold, "docker build, multi-stage", docker_cold)
        row("nothing changed", same, "docker build, multi-stage", docker_same)
        sizes = [int(subprocess.run(["docker", "inspect", "-f", "{{.Size}}", name], check=True, capture_output=True).stdout) for name in
                 (f"twostage-base:{digest}", "twostage-bench", "twostage-bench-multistage")]
        print(f"\nabove the base: twostage {(sizes[1] - sizes[0]) / 1e3:.0f} kB, multi-stage {(sizes[2] - sizes[0]) / 1e3:.0f} kB")
        subprocess.run(["docker", "image", "rm", "-f", "twostage-bench", "twostage-bench-multistage"], check=False, stdout=subprocess.DEVNULL)


def changed():
    """One file of a program is other than before: its image again, by the engine that needs no daemon. The audit of it alone, too."""
    with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "target")) as work:
        project = os.path.join(work, "hello")
        shutil.copytree(os.path.join(ROOT, "examples/hello"), project, ignore=shutil.ignore_patterns(".twostage"))
        source = os.path.join(project, "greet/greet.c")
        store = {**os.environ, "TWOSTAGE_STORE": os.path.join(work, "store"), "TWOSTAGE_ENGINE": "embedded"}
        run = [TWOSTAGE, "--project", project]
        clock([*run, "repo"], env=store)
        clock([*run, "runtime"], env=store)
        repo, runtime, audit = [], [], []
        for number in range(5):
            with open(source, "a") as file:
                file.write(f"\nconst char *const changed_{number} = \"{number}\";\n")
            repo.append(clock([*run, "repo"], env=store))
            runtime.append(clock([*run, "runtime"], env=store))
            audit.append(clock([*run, "audit", "hello"], env=store))
        hashing = median(lambda: clock("find '%s/images/blobs/sha256' -type f -exec sha256sum {} +" % store["TWOSTAGE_STORE"], shell=True))
        print("\n| examples/hello, one file changed | twostage | peer | ratio |\n|---|---|---|---|")
        row("repo", statistics.median(repo), "(runtime of the same)", statistics.median(runtime))
        row("runtime", statistics.median(runtime), "sha256sum of the store's blobs", hashing)
        row("audit of the image, its base known", statistics.median(audit), "sha256sum of the store's blobs", hashing)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=int, default=330)
    arguments = parser.parse_args()
    if not os.path.exists(TWOSTAGE):
        sys.exit("first: cargo build --release")
    publish(arguments.packages)
    flow()
    changed()


main()
