#!/usr/bin/python3
"""A command to which the system says no, or which is killed, or after which the power is cut, at every one of its calls.

    faults.py inject|cut TWOSTAGE PROJECT STEP publish FILE...
    faults.py inject|cut TWOSTAGE PROJECT STEP gc|fsck|remove|promote|rollback|withdraw|pin ARGUMENT...

The command is run in a copy of PROJECT for each case. Every STEP-th case is tried. After each the repository is in the old
state or in the new one, whole; what was acknowledged is there; `fsck --repair` loses nothing, and nothing is wrong after it; and
the command, run once more where it did not get to its end, finishes. Each failure is printed to standard error at once, and
the trial goes on. The last line says how many cases there were.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

# What a command asks of the file system, and what that may answer: open(2), write(2), fsync(2), rename(2) and so on.
ANSWERS = {
    "openat": ["EMFILE", "EACCES", "EIO"],
    "read": ["EIO", "EINTR"],
    "pread64": ["EIO", "EINTR"],
    "write": ["ENOSPC", "EIO", "EINTR"],
    "pwrite64": ["ENOSPC", "EIO", "EINTR"],
    "fsync": ["EIO", "EDQUOT"],
    "fdatasync": ["EIO", "EDQUOT"],
    "syncfs": ["EIO"],
    "rename": ["ENOSPC", "EROFS"],
    "renameat": ["ENOSPC", "EROFS"],
    "renameat2": ["ENOSPC"],
    "link": ["ENOSPC"],
    "linkat": ["ENOSPC"],
    "mkdir": ["ENOSPC", "EDQUOT"],
    "unlink": ["EIO", "EACCES"],
    "unlinkat": ["EIO"],
    "rmdir": ["EIO"],
    "ftruncate": ["EIO"],
    "fchmod": ["EPERM"],
    "chmod": ["EPERM"],
    "flock": ["ENOLCK"],
    "getdents64": ["EIO"],
    "statx": ["EACCES", "EIO"],
    "newfstatat": ["EACCES", "EIO"],
}
# The calls that change something: before each of them the process is killed, too.
CHANGES = ["openat", "write", "pwrite64", "fsync", "fdatasync", "syncfs", "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "unlink", "unlinkat", "ftruncate", "flock"]
# The machine's fault, whatever was asked for (model/src/error/os.rs): class `system`, and a hint of its own.
HINTS = {"ENOSPC": "the disk is full", "EDQUOT": "quota", "EROFS": "read-only", "EIO": "failed", "EMFILE": "ulimit -n"}
LINE = re.compile(r"^(\d+) +(\w+)\((.*?)(?:\) += (-?\d+|\?).*|(?: <unfinished.*))$")
REST = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>.*\) += (-?\d+|\?).*$")


# Seconds that a command may take: one that waits for ever is a fault, too.
LIMIT = 300


class Failed(Exception):
    """A case that did not end as it must."""


def run(*words, **more):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", timeout=LIMIT, **more)


class Trial:
    """A command, and what is so after it."""

    def __init__(self, program, project, words):
        self.project, self.words = project, words
        self.mended = self.wrong = 0
        # What was found good, by a digest of the repository: the state, and what a repair of it mended.
        self.good = {}
        # In memory where that can be: what is durable is told by the calls, and nothing waits for a disk.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.base = tempfile.mkdtemp(prefix="twostage-faults-", dir=memory)
        # A copy, so that a build during a long run does not change what is tried.
        self.program = shutil.copy(program, self.base)
        self.folder = os.path.join(self.base, "project")
        self.repository = os.path.join(self.folder, ".twostage/repository")
        self.log = os.path.join(self.base, "log")
        self.fresh()
        self.old = self.state()
        self.calls = self.record()
        self.new = self.state()
        assert self.old != self.new, "nothing is left to do"

    def fresh(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        # (Not the times alone: a stamp has the inode, too.)
        run("cp", "-a", self.project, self.folder).check_returncode()

    def command(self, *words):
        return [self.program, "--project", self.folder, *words]

    def once(self):
        return self.command("--json", *self.words)

    def strace(self, *options):
        return run("strace", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "0", "-o", self.log, *options, *self.once())

    def lines(self):
        """Thread, name, arguments and result of each call, in the order in which they began."""
        calls, open_in = [], {}
        with open(self.log, encoding="utf-8", errors="replace") as file:
            for line in file:
                if call := LINE.match(line):
                    calls.append(list(call.groups()))
                    open_in[call[1]] = len(calls) - 1
                elif rest := REST.match(line):
                    calls[open_in[rest[1]]][3] = rest[2]
        return calls

    def outside(self):
        """Whether the fault met what is not the project's: the loader's reads, or a thread's wake-up, which the kernel never
        answers so. (Only the threads' own counts are known to strace.)"""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return any("(INJECTED)" in line and self.folder not in line for line in file)

    def record(self):
        """The calls on the project: name, and its number among those of that name in its thread."""
        self.strace("-e", "trace=" + ",".join("?" + name for name in ANSWERS)).check_returncode()
        counts, calls, seen = {}, [], set()
        for thread, name, arguments, _ in self.lines():
            number = counts[thread, name] = counts.get((thread, name), 0) + 1
            if self.folder in arguments and (name, number) not in seen:
                seen.add((name, number))
                calls.append((name, number))
        return calls

    def judge(self, what, done):
        """Checks, and prints at once what is wrong. What is the same as after an earlier case is not looked at once more."""
        try:
            self.check(what, done)
        except Failed as why:
            self.failed(str(why))
        except (AssertionError, KeyError, IndexError, ValueError, OSError, subprocess.SubprocessError) as why:
            self.failed(f"{' '.join(self.words[:2])}: {what}: {why!r}")

    def progress(self, at, cases):
        if at % 250 == 249:
            print(f"{' '.join(self.words[:1])}: case {at + 1} of {cases}, {self.wrong} failed", file=sys.stderr, flush=True)

    def failed(self, why):
        self.wrong += 1
        print(why, file=sys.stderr, flush=True)

    def content(self):
        """A digest of all that the repository is. Of a memory of files only how long it is, of what was being written no name."""
        lines = []
        for folder, _, files in os.walk(self.repository):
            below = os.path.relpath(folder, self.repository)
            temporary = below.split("/")[0] == "tmp"
            lines.append("tmp" if temporary else below)
            for name in files:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    bytes = file.read()
                digest = len(bytes) if (below, name) == (".", "verified") else hashlib.sha256(bytes).hexdigest()
                lines.append(f"{'tmp' if temporary else os.path.join(below, name)} {digest}")
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def check(self, what, done=None):
        """The old state or the new one, whole, and the next time the command finishes."""
        said = "" if done is None else done.stdout + done.stderr
        def fail(why, more=None):
            more = "" if more is None else more.stdout + more.stderr
            raise Failed(f"{' '.join(self.words[:2])}: {what}: {why}\n{said}\n{more}")
        if "panicked" in said or "RUST_BACKTRACE" in said:
            fail("it panicked")
        self.check_state(done, said, fail)


class Publish(Trial):
    def state(self):
        with open(os.path.join(self.repository, "channels/main.json"), encoding="utf-8") as file:
            return json.load(file)["snapshot"]

    def check_state(self, done, said, fail):
        content = self.content()
        now = self.good.get(content) or self.state()
        if now not in (self.old, self.new):
            fail(f"the channel is neither what it was nor what it was to be: {now}")
        if '"event":"published"' in said and now != self.new:
            fail("what was acknowledged is not there")
        if content in self.good:
            return
        repaired = run(*self.command("--json", "channel", "main", "--repair"))
        if repaired.returncode != 0:
            fail("the channel is not whole", repaired)
        mended = json.loads(repaired.stdout.splitlines()[-1])["channels"][0]["mended"]
        if mended:
            fail("the channel was not whole", repaired)
        again = run(*self.once())
        if again.returncode != 0 or self.state() != self.new:
            fail("publishing once more does not finish", again)
        self.good[content] = now


def names(folder, depth):
    """The names in a folder, or in the folders in it. (What was being written is removed by the next command.)"""
    if not os.path.isdir(folder):
        return set()
    found = {name for name in os.listdir(folder) if not name.startswith((".", "incoming-"))}
    if depth == 0:
        return found
    return {f"{name}/{below}" for name in found for below in names(os.path.join(folder, name), depth - 1)}


class Change(Trial):
    """Any other command that changes a repository."""

    # What may be done twice. (`rollback` goes back once more, and what was removed is not there any more.)
    REPEATED = ("gc", "fsck", "promote", "pin")

    def state(self):
        channels = {}
        for name in sorted(names(os.path.join(self.repository, "channels"), 0)):
            try:
                with open(os.path.join(self.repository, "channels", name), encoding="utf-8") as file:
                    channels[name] = json.load(file)["snapshot"]
            except ValueError:
                channels[name] = "damaged"
        pins = run(*self.command("--json", "pin"))
        pins = [(pin["snapshot"], [reason["text"] for reason in pin["reasons"]]) for pin in json.loads(pins.stdout.splitlines()[-1]).get("pins", [])]
        below = {name: names(os.path.join(self.repository, name), depth) for name, depth in (("withdrawn", 0), ("snapshots", 0), ("pool", 1), ("blobs", 1))}
        below["withdrawn"].discard("again")
        whole = run(*self.command("--json", "fsck")).returncode == 0 if self.words[0] == "fsck" else None
        return {"channels": channels, "pins": pins, "whole": whole, **below}

    def is_between(self, now):
        """Whether the old state can have become this one, on the way to the new one."""
        old, new, kind = self.old, self.new, self.words[0]
        either = [now[what] in (old[what], new[what]) for what in ("channels", "pins")]
        # What goes is in the old one, what comes is in the new one; each by itself.
        sets = [(old[what] & new[what]) <= now[what] <= (old[what] | new[what]) for what in ("withdrawn", "snapshots", "pool", "blobs")]
        # No channel goes on without what is not withdrawn.
        order = kind != "withdraw" or now["channels"] == old["channels"] or now["withdrawn"] == new["withdrawn"]
        # (A repair mends one thing after the other.)
        return kind == "fsck" or (all(either) and all(sets) and order)

    def is_as_said(self, done, now):
        """Whether what a command acknowledged is so. (A gc may leave what it cannot look at, and says what it freed.)"""
        if self.words[0] != "gc":
            return now == self.new
        freed = json.loads(done.stdout.splitlines()[-1])["freed"]
        gone = {thing["name"] for thing in freed if thing["what"] == "snapshot"} == self.old["snapshots"] - now["snapshots"]
        return gone and len([thing for thing in freed if thing["what"] == "package"]) == len(self.old["pool"] - now["pool"])

    def check_state(self, done, said, fail):
        content = self.content()
        now, mended = self.good.get(content) or (self.state(), None)
        if not self.is_between(now):
            fail(f"it is neither what it was nor what it was to be:\n{self.old}\n{now}\n{self.new}")
        if done is not None and done.returncode == 0 and not self.is_as_said(done, now):
            fail(f"what was acknowledged is not there:\n{now}\n{self.new}")
        if mended is not None:
            self.mended += mended
            return
        # (What was withdrawn and is there still is for the next withdrawal: fsck names it.)
        if self.words[0] == "withdraw" and now != self.new and run(*self.once()).returncode != 0:
            fail("once more it does not finish")
        repaired = run(*self.command("--json", "fsck", "--repair"))
        if repaired.returncode != 0:
            fail("it is not whole", repaired)
        found = json.loads(repaired.stdout.splitlines()[-1])["found"]
        self.mended += len(found)
        if [one for one in found if one["state"] != "mended"]:
            fail("something of it was lost", repaired)
        after = run(*self.command("--json", "fsck"))
        if after.returncode != 0:
            fail("it is not whole after a repair", after)
        if self.words[0] in self.REPEATED or self.state() != self.new:
            again = run(*self.once())
            if again.returncode != 0:
                fail("once more it does not finish", again)
        last = self.state()
        if self.words[0] == "withdraw":
            # Done in two steps, it leaves a snapshot in between.
            last["snapshots"] = last["snapshots"] & self.new["snapshots"]
        if last != self.new:
            fail(f"once more it does not get there:\n{last}\n{self.new}", repaired)
        self.good[content] = (now, len(found))


def inject(trial, step):
    cases = []
    for name, number in trial.calls:
        cases += [(name, number, f"error={answer}") for answer in ANSWERS[name]]
        if name in CHANGES:
            cases.append((name, number, "signal=KILL"))
    tried = failed = outside = 0
    for at, (name, number, fault) in enumerate(cases[::step]):
        trial.progress(at, len(cases[::step]))
        trial.fresh()
        what = f"{name} number {number}: {fault}"
        try:
            done = trial.strace("-e", f"trace={name}", "-e", f"inject={name}:{fault}:when={number}")
        except subprocess.TimeoutExpired:
            if not trial.outside():
                trial.failed(f"{' '.join(trial.words[:2])}: {what}: it does not end")
            done = None
        if trial.outside():
            outside += 1
            continue
        tried += 1
        if done is None:
            continue
        failed += done.returncode != 0
        if fault.startswith("error=") and done.returncode != 0:
            error = json.loads(done.stdout.splitlines()[-1])
            wanted = HINTS.get(fault.removeprefix("error="))
            # (Who asks only whether something is there is told by these that it is not.)
            if wanted and name not in ("statx", "newfstatat") and not (error["class"] == "system" and wanted in error["hint"]):
                trial.failed(f"{' '.join(trial.words[:2])}: {what}: neither class nor hint follow from it: {error}")
        trial.judge(what, done)
    print(f"faults: {tried} of {len(cases)} cases at {len(trial.calls)} calls, {failed} ended it, {outside} met what is not the project's, {trial.mended} mended by fsck: {' '.join(trial.words[:1])}")


class Disk:
    """What is durable of a run that ended just so: fsync of a file its bytes, of a folder its names."""

    def __init__(self, trial):
        self.dirty, self.names, self.made = set(), [], set()
        # A path by itself; or a folder that is open, and a name in it.
        path = re.compile(r"(?:<([^>]*)>)?(?:, )?(?:\"([^\"]*)\")?")
        for _, name, arguments, result in trial.lines():
            if result in (None, "?") or int(result) < 0:
                continue
            paths = [os.path.join(*pair) if pair[1] else pair[0] for pair in path.findall(arguments) if any(pair)]
            paths = [path for path in paths if path.startswith(trial.folder + "/")]
            if name == "syncfs":
                self.dirty.clear()
                self.names.clear()
            if not paths:
                continue
            if name == "openat" and "O_CREAT" in arguments:
                # (One that was there before has its name already.)
                if not os.path.exists(os.path.join(trial.project, os.path.relpath(paths[-1], trial.folder))):
                    self.names.append(("new", paths[-1]))
                self.dirty.add(paths[-1])
                if "O_TRUNC" in arguments:
                    self.made.add(paths[-1])
            elif name in ("write", "pwrite64", "ftruncate"):
                self.dirty.add(paths[0])
            elif name in ("unlink", "unlinkat", "rmdir"):
                self.names.append(("emptied" if name == "rmdir" or "AT_REMOVEDIR" in arguments else "gone", paths[-1]))
                self.dirty.discard(paths[-1])
            elif name in ("rename", "renameat", "renameat2", "linkat", "link"):
                before, after = paths[0], paths[-1]
                self.names.append(("moved", after))
                if "link" not in name:
                    self.names.append(("gone", before))
                self.made.add(after)
                moved = {p for p in self.dirty if p == before or p.startswith(before + "/")}
                self.dirty = (self.dirty - moved) | {after + p[len(before):] for p in moved}
            elif name in ("fsync", "fdatasync"):
                self.dirty.discard(paths[0])
                self.names = [(how, path) for how, path in self.names if os.path.dirname(path) != paths[0]]

    def lose(self, trial, how):
        """Takes away what a power cut may take: bytes that were not synced, names that were not."""
        lost = 0
        if "bytes" in how:
            for path in self.dirty:
                if os.path.isfile(path):
                    # What a file had before this run is durable: it was only added to.
                    earlier = os.path.join(trial.project, os.path.relpath(path, trial.folder))
                    durable = os.path.getsize(earlier) if path not in self.made and os.path.isfile(earlier) else 0
                    more = max(os.path.getsize(path) - durable, 0)
                    os.truncate(path, durable + (0 if "all" in how else more // 2))
                    lost += 1
        if "names" in how:
            for what, path in reversed(self.names):
                earlier = os.path.join(trial.project, os.path.relpath(path, trial.folder))
                shutil.rmtree(path, ignore_errors=True)
                if os.path.isfile(path):
                    os.remove(path)
                if what == "emptied":
                    os.makedirs(path, exist_ok=True)
                elif os.path.exists(earlier):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    run("cp", "-a", earlier, path)
                lost += 1
        return lost


def cut(trial, step):
    moments = [(name, number) for name, number in trial.calls if name in CHANGES and name != "flock"]
    cases = [(moment, how) for moment in moments for how in ("all bytes", "half the bytes", "names", "names and all bytes")]
    tried = lost = 0
    for at, ((name, number), how) in enumerate(cases[::step]):
        trial.progress(at, len(cases[::step]))
        trial.fresh()
        trace = "trace=" + ",".join("?" + name for name in CHANGES)
        done = trial.strace("-e", trace, "-e", f"inject={name}:signal=KILL:when={number}")
        lost += Disk(trial).lose(trial, how)
        tried += 1
        trial.judge(f"power cut at {name} number {number}, without {how}", done)
    print(f"power cuts: {tried} of {len(cases)} cases at {len(moments)} calls, {lost} files and names lost, {trial.mended} mended by fsck: {' '.join(trial.words[:1])}")


def main():
    kind, program, project, step, *words = sys.argv[1:]
    trial = (Publish if words[0] == "publish" else Change)(program, project, words)
    try:
        (inject if kind == "inject" else cut)(trial, int(step))
    finally:
        shutil.rmtree(trial.base, ignore_errors=True)
    if trial.wrong:
        sys.exit(f"{trial.wrong} cases failed")


main()
