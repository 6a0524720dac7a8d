#!/usr/bin/env python3
"""Measures the repository against createrepo_c, apt-ftparchive, reprepro and aptly: benches/repository.py [--number 2000] [--pairs 5]
[--rpms FOLDER] [--debs FOLDER]

Each row is a pair: ours with every fsync and signature, and the peer's with `sync -f` behind it, one after the other,
in alternating order; the medians of the pairs. Packages are small (reposerver/examples/corpus.rs), so that what is
measured is the work for a package; or they are those of a folder, such as tests/tools/real_packages.py makes.
"Each unpacked" is what a careful reader does besides: every payload read, every rpm signed, all of it copied. The limits of the machine are printed below. A peer that is not installed is named
with what installs it. Nothing here fails for being slow.
"""
import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
TWOSTAGE = os.path.join(RELEASE, "twostage")
PROJECT = """[project]
name = "bench"
format = "deb"

[base]
bootstrap = "host"

[[component]]
name = "greet"
source = "src"

[runtime.bench]
packages = ["greet"]
"""
PEERS = {"createrepo_c": "createrepo-c", "apt-ftparchive": "apt-utils", "reprepro": "reprepro", "aptly": "aptly"}
DISTRIBUTIONS = "Codename: bench\nComponents: main\nArchitectures: amd64\n"


def run(*words, **more):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if done.returncode != 0:
        # Of a tool that names each of a thousand files, the end says what happened.
        sys.exit(f"{' '.join(map(str, words[:6]))}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


class Bench:
    def __init__(self, folder, number, pairs, real):
        self.folder, self.pairs, self.made = folder, pairs, number
        self.real = real
        for kind in ("rpms", "debs"):
            if not real[kind]:
                self.corpus(kind, number, kind, 0)

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def corpus(self, kind, count, name, first):
        run(os.path.join(RELEASE, "examples/corpus"), kind, str(count), self.at(name), str(first))
        return sorted(os.path.join(self.at(name), file) for file in os.listdir(self.at(name)))

    def files(self, kind):
        """The packages of a kind, and how many, for people."""
        folder = self.real[kind] or self.at(kind)
        files = sorted(os.path.join(folder, file) for file in os.listdir(folder) if file.endswith(f".{kind[:3]}"))
        size = sum(os.path.getsize(file) for file in files) / 1e6
        return files, f"{len(files)} {'real ' if self.real[kind] else ''}{kind}, {size:.0f} MB"

    def linked(self, files, name):
        """The same packages for a peer, in a folder that it writes into."""
        os.mkdir(self.at(name))
        for file in files:
            try:
                os.link(file, self.at(name, os.path.basename(file)))
            except OSError:
                shutil.copy2(file, self.at(name))

    def one_more(self, kind):
        """A package that was not there before."""
        self.made += 1
        return self.corpus(kind, 1, f"more-{kind}-{self.made}", self.made)[0]

    def project(self, name):
        os.makedirs(self.at(name, "src/debian"))
        with open(self.at(name, "twostage.toml"), "w", encoding="utf-8") as file:
            file.write(PROJECT)
        with open(self.at(name, "src/debian/control"), "w", encoding="utf-8") as file:
            file.write("Source: greet\n")
        # The key is made before anything is timed.
        run(TWOSTAGE, "--project", self.at(name), "publish", self.one_more("debs"))
        return name

    def publish(self, name, files):
        run(TWOSTAGE, "--project", self.at(name), "--quiet", "publish", *files)

    def timed(self, action):
        os.sync()
        start = time.monotonic()
        action()
        return time.monotonic() - start

    def synced(self, action):
        def both():
            action()
            run("sync", "-f", self.folder)

        return both

    def pair(self, work, ours, peer, theirs, pairs=None):
        """`ours` and `theirs` make an action each, so that what is not measured is done before."""
        times = {"ours": [], "theirs": []}
        for turn in range(pairs or self.pairs):
            for who in ("ours", "theirs") if turn % 2 == 0 else ("theirs", "ours"):
                times[who].append(self.timed(ours() if who == "ours" else self.synced(theirs())))
        mine, other = statistics.median(times["ours"]), statistics.median(times["theirs"])
        print(f"| {work} | {mine:.3f} s | {peer} | {other:.3f} s | {mine / other:.2f} |", flush=True)

    def alone(self, work, ours):
        print(f"| {work} | {statistics.median(self.timed(ours()) for _ in range(self.pairs)):.3f} s | | | |", flush=True)

    def from_nothing(self, name, files):
        """The action that makes all of the metadata again from the pool."""
        repository = self.at(name, ".twostage/repository")
        shutil.rmtree(os.path.join(repository, "catalog"))
        shutil.rmtree(os.path.join(repository, "snapshots"))
        return lambda: self.publish(name, files[:1])

    def rpms(self):
        name = self.project("ours-rpms")
        files, number = self.files("rpms")
        self.linked(files, "peer-rpms")
        create = ["createrepo_c", "-q", "--no-database", "--workers=2", self.at("peer-rpms")]
        if self.real["rpms"]:
            self.pair(f"{number}, all new", lambda: lambda: self.publish(name, files), "createrepo_c, rpmsign, each unpacked, cp", lambda: self.careful_rpms(files, create), 1)
            name = self.project("ours-rpms-again")
        self.pair(f"{number}, all new", lambda: lambda: self.publish(name, files), "createrepo_c", lambda: lambda: run(*create), 1)

        def from_nothing_peer():
            shutil.rmtree(self.at("peer-rpms/repodata"))
            return lambda: run(*create)

        self.pair(f"metadata of {number} in the pool, from nothing", lambda: self.from_nothing(name, files), "createrepo_c", from_nothing_peer)

        def one_more():
            file = self.one_more("rpms")
            return lambda: self.publish(name, [file])

        def one_more_peer():
            file = self.one_more("rpms")
            os.link(file, self.at("peer-rpms", os.path.basename(file)))
            return lambda: run(*create, "--update")

        self.pair(f"one more rpm at {len(files)}", one_more, "createrepo_c --update", one_more_peer)
        self.alone(f"nothing new, one rpm named, at {len(files)}", lambda: lambda: self.publish(name, files[:1]))

    def careful_rpms(self, files, create):
        """Makes a key, and gives the action of the tools that do together what ours does."""
        home = self.at("gnupg")
        os.makedirs(home, mode=0o700, exist_ok=True)
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
        run(*gpg, "--quick-generate-key", "bench", "rsa3072", "sign", "never")

        # rpm looks for a gpg2, which not every distribution has.
        macros = ["_gpg_name bench", f"_gpg_path {home}", f"__gpg {shutil.which('gpg')}"]
        defined = [word for macro in macros for word in ("--define", macro)]

        def action():
            copies = self.at("copies")
            shutil.rmtree(copies, ignore_errors=True)
            os.mkdir(copies)
            run("cp", "--", *files, copies)
            copied = [os.path.join(copies, file) for file in os.listdir(copies)]
            # In portions, or the list of words is too long.
            for at in range(0, len(copied), 500):
                run("rpmsign", *defined, "--addsign", *copied[at : at + 500])
            for file in copied:
                subprocess.run(["rpm2cpio", file], stdout=subprocess.DEVNULL, check=True)
            run(*create)
            shutil.rmtree(self.at("peer-rpms/repodata"))

        return action

    def debs(self):
        name = self.project("ours-debs")
        files, number = self.files("debs")
        self.linked(files, "peer-debs")
        hashes = [word for hash in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::{hash}=false")]

        def ftparchive(*database):
            with open(self.at("Packages"), "w", encoding="utf-8") as file:
                subprocess.run(["apt-ftparchive", *hashes, *database, "packages", self.at("peer-debs")], stdout=file, check=True)

        def unpacked():
            for file in files:
                subprocess.run(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.DEVNULL, check=True)

        if self.real["debs"]:
            self.pair(f"{number}, all new", lambda: lambda: self.publish(name, files), "each unpacked by dpkg-deb", lambda: unpacked, 1)
            name = self.project("ours-debs-again")
        self.pair(f"{number}, all new", lambda: lambda: self.publish(name, files), "apt-ftparchive", lambda: ftparchive, 1)

        self.pair(f"metadata of {number} in the pool, from nothing", lambda: self.from_nothing(name, files), "apt-ftparchive", lambda: ftparchive)
        database = ["--db", self.at("ftparchive.db")]
        ftparchive(*database)

        def one_more():
            file = self.one_more("debs")
            return lambda: self.publish(name, [file])

        def one_more_peer():
            file = self.one_more("debs")
            os.link(file, self.at("peer-debs", os.path.basename(file)))
            return lambda: ftparchive(*database)

        self.pair(f"one more deb at {len(files)}", one_more, "apt-ftparchive, warm database", one_more_peer)
        if shutil.which("reprepro"):
            os.makedirs(self.at("reprepro/conf"))
            with open(self.at("reprepro/conf/distributions"), "w", encoding="utf-8") as file:
                file.write(DISTRIBUTIONS)
            include = ["reprepro", "--silent", "-b", self.at("reprepro"), "includedeb", "bench"]
            run(*include, *files)

            def one_more_reprepro():
                file = self.one_more("debs")
                return lambda: run(*include, file)

            self.pair(f"one more deb at {len(files)}", one_more, "reprepro, unsigned", one_more_reprepro)
        self.alone(f"nothing new, one deb named, at {len(files)}", lambda: lambda: self.publish(name, files[:1]))

    def limits(self):
        path = self.at("limit")
        with open(path, "wb") as file:
            file.write(os.urandom(1 << 20) * 256)
        hashing = 256 / self.timed(lambda: run("openssl", "dgst", "-sha256", path))
        times = []
        for _ in range(50):
            with open(path, "wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                start = time.monotonic()
                os.fsync(file.fileno())
                times.append(time.monotonic() - start)
        print(f"\nSHA-256 {hashing:.0f} MB/s a core, fsync of 4 kB {statistics.median(times) * 1000:.2f} ms")
        # Lines of `openssl speed` end with signatures and verifications in a second.
        for key in ("rsa3072", "rsa4096", "ed25519"):
            line = run("openssl", "speed", "-seconds", "1", key).splitlines()[-1]
            print(f"openssl: {' '.join(line.split())}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=2000, help="packages of each kind")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rpms", help="a folder of rpms, instead of those that are made")
    parser.add_argument("--debs", help="the same of debs")
    arguments = parser.parse_args()
    if not os.path.exists(TWOSTAGE) or not os.path.exists(os.path.join(RELEASE, "examples/corpus")):
        sys.exit("first: cargo build --release && cargo build --release -p twostage-reposerver --example corpus")
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(": ")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    print(f"{model}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {run(TWOSTAGE, '--version').strip()}")
    for tool, package in PEERS.items():
        print(f"{tool}: {'there' if shutil.which(tool) else f'not installed: apt-get install {package}'}")
    print("\n| work | ours | peer | theirs | ratio |\n|---|---|---|---|---|")
    # Not where memory is the disk: durability is a part of it.
    with tempfile.TemporaryDirectory(prefix="twostage-bench-", dir="/var/tmp") as folder:
        bench = Bench(folder, arguments.number, arguments.pairs, {"rpms": arguments.rpms, "debs": arguments.debs})
        if shutil.which("createrepo_c"):
            bench.rpms()
        if shutil.which("apt-ftparchive"):
            bench.debs()
        bench.limits()


main()
