#!/usr/bin/env python3
"""Measures flatten and audit against the peers, in one run on one machine: benches/images.py [--gib 1.5] [--files 60000]

Each row is a ratio: our time over the peer's, medians of several runs, page cache warm. A peer that is
not installed is named and left out. The image is made here: three layers, the last of which deletes
part of the second. Nothing here fails for being slow. --files-only leaves out what needs a daemon.

The first table is flatten and audit of an archive beside plain SHA-256 of it, in pairs that alternate: so
what else runs on the machine slows down both.
"""
import argparse
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TWOSTAGE = os.path.join(ROOT, "target/release/twostage")
NAME = "twostage-bench-image"


def layer(path, number, files, size, deleted, pool, rng):
    """Writes one layer's tar; gives its paths."""
    paths = []
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        def add(name, kind, data=b""):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.mtime, member.mode = kind, len(data), 1_700_000_000, 0o755 if kind == tarfile.DIRTYPE else 0o644
            tar.addfile(member, io.BytesIO(data))

        for at in deleted:
            folder, name = os.path.split(at)
            add(f"{folder}/.wh.{name}", tarfile.REGTYPE)
        add("usr", tarfile.DIRTYPE)
        for n in range(files):
            folder = f"usr/l{number}-{n // 200}"
            if n % 200 == 0:
                add(folder, tarfile.DIRTYPE)
            # Most files are small and a few are large, as in real trees.
            length = int(rng.paretovariate(1.2) * size / files / 6)
            length = min(length, size // 40)
            at = rng.randrange(len(pool) - 4096)
            data = (pool[at:] + pool)[:length] if length > len(pool) - at else pool[at : at + length]
            paths.append(f"{folder}/f{n}")
            add(paths[-1], tarfile.REGTYPE, data)
        # What is missing of the size, in one file.
        rest = size - tar.offset
        if rest > 0:
            add(f"usr/l{number}-rest", tarfile.REGTYPE, (pool * (rest // len(pool) + 1))[:rest])
    return paths


def make(folder, size, files):
    """A docker archive."""
    rng = random.Random(1)
    # Half of it is noise, half text: gzip makes about half of it.
    noise = rng.randbytes(8 << 20)
    text = b" ".join(rng.choice([b"alpha", b"beta", b"gamma", b"delta", b"0x%x" % n]) for n in range(1 << 20))[: 8 << 20]
    pool = b"".join(part[at : at + 4096] for at in range(0, 8 << 20, 4096) for part in (noise, text))
    archive = os.path.join(folder, "image.tar")
    tars, paths, digests = [], [], []
    for number, share in enumerate([0.35, 0.4, 0.25]):
        at = os.path.join(folder, f"{number}.tar")
        deleted = rng.sample(paths, len(paths) // 5) if number == 2 else []
        paths = layer(at, number, int(files * share), int(size * share), deleted, pool, rng)
        tars.append(at)
        with open(at, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{d}" for d in digests]},
                         "history": [{"created_by": f"step {n}", "created": "2026-01-01T00:00:00Z"} for n in range(3)]}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [f"{NAME}:latest"], "Layers": [f"{n}/layer.tar" for n in range(3)]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for name, data in (("config.json", config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for number, at in enumerate(tars):
            tar.add(at, f"{number}/layer.tar")
            os.remove(at)


def clock(command, status=(0,)):
    """Seconds, and megabytes of memory at the most."""
    start = time.monotonic()
    child = subprocess.Popen(command, shell=isinstance(command, str), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = child.stderr.read()
    _, code, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(code)
    if child.returncode not in status:
        sys.exit(f"{command}: {child.returncode}\n{said.decode()}")
    return time.monotonic() - start, used.ru_maxrss / 1024


def median(command, before=None, status=(0,), runs=3):
    times, most = [], 0
    for _ in range(runs):
        if before:
            before()
        seconds, memory = clock(command, status)
        times.append(seconds)
        most = max(most, memory)
    return statistics.median(times), most


def pairs(name, ours, peer, command, status=(0,), runs=5):
    """One row of medians: wall time, CPU time, and their ratios pair by pair."""
    rows = []
    for _ in range(runs):
        pair = []
        for one, allowed in ((ours, status), (command, (0,))):
            before = os.times()
            seconds, memory = clock(one, allowed)
            after = os.times()
            cpu = after.children_user - before.children_user + after.children_system - before.children_system
            pair.append((seconds, cpu, memory))
        rows.append(pair)

    def of(side, what):
        return statistics.median(pair[side][what] for pair in rows)

    wall, cpu = (statistics.median(pair[0][what] / max(pair[1][what], 0.001) for pair in rows) for what in (0, 1))
    print(f"| {name} | {of(0, 0):.2f} s, {of(0, 1):.2f} s, {of(0, 2):.0f} MB | {peer} {of(1, 0):.2f} s, {of(1, 1):.2f} s | {wall:.2f}, {cpu:.2f} |", flush=True)


def beside_sha256(work, archive):
    flat = os.path.join(work, "flat.tar")
    flatten = [TWOSTAGE, "flatten", "--all", "--to", f"docker-archive:{flat}", f"docker-archive:{archive}"]
    audit = [TWOSTAGE, "--project", work, "audit", "--base-layers", "1", f"docker-archive:{archive}"]
    print("| | twostage: wall, CPU, memory | peer: wall, CPU | ratios |\n|---|---|---|---|")
    for peer, command in (("openssl dgst -sha256", ["openssl", "dgst", "-sha256", archive]), ("sha256sum", ["sha256sum", archive])):
        if shutil.which(command[0]):
            pairs("flatten, archive to archive", flatten, peer, command)
            pairs("audit of an archive", audit, peer, command, (0, 1))
        else:
            print(f"| ({command[0]} is not installed) | | | |")
    print()


def row(name, ours, peer, theirs):
    print(f"| {name} | {ours[0]:.2f} s, {ours[1]:.0f} MB | {peer} {theirs[0]:.2f} s | {ours[0] / theirs[0]:.2f} |", flush=True)


def remove(*images):
    subprocess.run(["docker", "image", "rm", "-f", *images], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def measure(size, files, work, files_only):
    # In a process of its own: what a child takes is counted from what its parent had when it started.
    subprocess.run([sys.executable, __file__, "--make", work, str(size), str(files)], check=True)
    archive = os.path.join(work, "image.tar")
    print(f"an image of {os.path.getsize(archive) / 1e9:.2f} GB with {files} files in 3 layers\n")
    beside_sha256(work, archive)
    if files_only:
        return
    print("| | twostage | peer | ratio |\n|---|---|---|---|")
    flat = os.path.join(work, "flat.tar")
    flat_name, imported = f"{NAME}-flat", f"{NAME}-imported"
    subprocess.run(["docker", "load", "-qi", archive], check=True, stdout=subprocess.DEVNULL)
    try:
        ours = median([TWOSTAGE, "flatten", "--all", "--to", f"docker-archive:{flat}", f"docker-archive:{archive}"], lambda: os.path.exists(flat) and os.remove(flat))
        container = subprocess.run(["docker", "create", NAME], check=True, capture_output=True, text=True).stdout.strip()
        export = median(f"docker export {container} | docker import - {imported}", lambda: remove(imported))
        row("flatten, archive to archive", ours, "docker export \\| docker import", export)
        engine = median([TWOSTAGE, "flatten", "--all", "--to", flat_name, NAME], lambda: remove(flat_name))
        row("flatten, in Docker", engine, "docker export \\| docker import", export)
        if shutil.which("skopeo"):
            store = os.path.join(work, "store")

            def bring():
                shutil.rmtree(store, ignore_errors=True)
                os.makedirs(store, 0o700)
                subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{store}/images:{NAME}:latest"], check=True)
                subprocess.run([*alone, "run", NAME, "/nothing"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

            alone = ["env", "TWOSTAGE_ENGINE=embedded", f"TWOSTAGE_STORE={store}", TWOSTAGE]
            ours = median([*alone, "flatten", "--all", "--to", flat_name, NAME], bring)
            row("flatten, in the engine that needs no daemon", ours, "docker export \\| docker import", export)
            shutil.rmtree(store, ignore_errors=True)
        else:
            print("| (skopeo is not installed) | | | |")
        subprocess.run(["docker", "rm", container], check=True, stdout=subprocess.DEVNULL)
        if shutil.which("docker-squash"):
            row("flatten, in Docker", engine, "docker-squash", median(["docker-squash", "-t", imported, NAME], lambda: remove(imported), runs=1))
        else:
            print("| (docker-squash is not installed) | | | |")
        if shutil.which("umoci") and shutil.which("skopeo"):
            layout, target, bundle = (os.path.join(work, name) for name in ("layout", "layout-flat", "bundle"))
            subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{layout}:it"], check=True)

            def clean():
                for folder in (target, bundle, f"{layout}-umoci"):
                    shutil.rmtree(folder, ignore_errors=True)

            ours = median([TWOSTAGE, "flatten", "--all", "--to", f"oci:{target}:it", f"oci:{layout}:it"], clean)
            script = f"umoci unpack --image {layout}:it {bundle} && umoci init --layout {layout}-umoci && umoci new --image {layout}-umoci:it && umoci insert --image {layout}-umoci:it {bundle}/rootfs /"
            row("flatten, layout to layout, gzip", ours, "umoci unpack, insert", median(script, clean, runs=1))
            clean()
        else:
            print("| (umoci is not installed) | | | |")
        audit = [TWOSTAGE, "--project", work, "audit", "--base-layers", "1"]
        ours = median([*audit, NAME], status=(0, 1))
        row("audit, in Docker", ours, "docker save \\| sha256sum", median(f"docker save {NAME} | sha256sum"))
    finally:
        remove(NAME, flat_name, imported)
    print()


def main():
    if sys.argv[1:2] == ["--make"]:
        make(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.5)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--files-only", action="store_true")
    arguments = parser.parse_args()
    if not os.path.exists(TWOSTAGE):
        sys.exit("first: cargo build --release")
    with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "target")) as work:
        measure(int(arguments.gib * (1 << 30)), arguments.files, work, arguments.files_only)
    with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "target")) as work:
        measure(100 << 20, 100_000, work, arguments.files_only)


main()
