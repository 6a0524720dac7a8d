#!/usr/bin/env python3
"""Measures the embedded engine against Docker, in one run on one machine: benches/engines.py [--runs 3] [--rpm]

`repo` and `runtime` of an example whose packages and base are in its repository already, so that no mirror is
asked: on an engine that has neither the base nor a builder image. Then both again with nothing changed. Each row
is the median time, and the ratio. Nothing here fails for being slow.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TWOSTAGE = os.path.join(ROOT, "target/release/twostage")


def twostage(project, engine, store, *words):
    environment = {**os.environ, "TWOSTAGE_ENGINE": engine, "TWOSTAGE_STORE": store, "NO_COLOR": "1"}
    done = subprocess.run([TWOSTAGE, "--project", project, *words], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} on {engine}:\n{done.stderr}")
    return done.stdout


def forget(engine, store):
    """The engine has nothing of twostage's any more."""
    if engine == "embedded":
        shutil.rmtree(store, ignore_errors=True)
        return
    listed = subprocess.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=True).stdout
    ours = [name for name in listed.split() if name.startswith(("twostage-base:", "twostage-builder:", "bench-hello"))]
    if ours:
        subprocess.run(["docker", "image", "rm", "--force", *ours], capture_output=True, check=False)
    subprocess.run(["docker", "builder", "prune", "--all", "--force"], capture_output=True, check=False)


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rpm", action="store_true", help="examples/hello-rpm instead of examples/hello")
    options = parser.parse_args()
    example = os.path.join(ROOT, "examples", "hello-rpm" if options.rpm else "hello")
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        first = os.path.join(folder, "first")
        if options.rpm:
            subprocess.run([os.path.join(example, "base.sh")], check=True, stdout=subprocess.DEVNULL)
        shutil.copytree(example, first, ignore=shutil.ignore_patterns(".twostage", "twostage.lock"), symlinks=True)
        file = os.path.join(first, "twostage.toml")
        with open(file, encoding="utf-8") as text:
            changed = text.read().replace("[runtime.hello", "[runtime.bench-hello")
        with open(file, "w", encoding="utf-8") as text:
            text.write(changed)
        # Fetches and locks; and makes the export that all the others start from.
        twostage(first, "embedded", store, "repo")
        export = os.path.join(folder, "export.tar")
        twostage(first, "embedded", store, "export", export)
        times = {}
        for run in range(options.runs):
            for engine in ("docker", "embedded"):
                forget(engine, store)
                project = os.path.join(folder, f"{engine}-{run}")
                shutil.copytree(first, project, ignore=shutil.ignore_patterns(".twostage"), symlinks=True)
                twostage(project, engine, store, "import", export)
                # What was built is not asked for again: each builds all of it.
                shutil.rmtree(os.path.join(project, ".twostage/repository/builds"), ignore_errors=True)
                rows = {
                    "repo": lambda: twostage(project, engine, store, "repo", "--locked"),
                    "runtime": lambda: twostage(project, engine, store, "runtime"),
                    "repo, nothing changed": lambda: twostage(project, engine, store, "repo"),
                    "runtime, nothing changed": lambda: twostage(project, engine, store, "runtime"),
                }
                spent = {row: timed(action) for row, action in rows.items()}
                spent["repo and runtime"] = spent["repo"] + spent["runtime"]
                spent["both, nothing changed"] = spent["repo, nothing changed"] + spent["runtime, nothing changed"]
                for row, seconds in spent.items():
                    times.setdefault(row, {}).setdefault(engine, []).append(seconds)
        forget("docker", store)
    version = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{'':28}{'docker ' + version:>16}{'embedded':>12}{'ratio':>8}")
    for row, by_engine in times.items():
        docker, embedded = (statistics.median(by_engine[engine]) for engine in ("docker", "embedded"))
        print(f"{row:28}{docker:14.2f} s{embedded:10.2f} s{embedded / docker:8.2f}")


main()
