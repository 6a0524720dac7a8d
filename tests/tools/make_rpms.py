#!/usr/bin/env python3
"""Makes a folder of rpms with rpmbuild: what a reader and a writer of metadata can get wrong.

    make_rpms.py FOLDER [--many N] [--debs FOLDER COUNT]

A matrix of spec features (kinds of dependencies, epochs, kinds of files, scripts, encodings, control
characters, compressions, 20,000 files, source rpms); with --many a package with N subpackages; with
--debs the contents of COUNT real Debian packages, packed as rpms with rpm's own dependency
generators. Prints the number of rpms. Needs rpmbuild, and dpkg-deb for --debs.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

HEAD = b"""%define _invalid_encoding_terminates_build 0
%define _build_id_links none
%define debug_package %{nil}
%define __os_install_post %{nil}
Name: NAME
Version: 1.0
Release: 1
Summary: SUMMARY
License: MIT
"""
TAIL = b"""
%description
DESCRIPTION
"""


def spec(name, preamble="", files="", install="", rest="", summary="a test", description="a test\nof two lines"):
    as_bytes = [part if isinstance(part, bytes) else part.encode() for part in (preamble, files, install, rest, summary, description)]
    preamble, files, install, rest, summary, description = as_bytes
    head = HEAD.replace(b"NAME", name.encode()).replace(b"SUMMARY", summary)
    parts = [head, preamble, b"\n", TAIL.replace(b"DESCRIPTION", description), b"%install\nmkdir -p %{buildroot}\n", install]
    return b"".join(parts + [b"\n", rest, b"\n%files\n", files, b"\n"])


# Most of rpmbuild's time goes to its own generators, a process for each file: so several run at a time.
WORKERS = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
STARTED = []


def build(text, out, defines=()):
    STARTED.append(WORKERS.submit(build_now, text, out, defines))


def finish():
    """Waits for all that was started; raises what one of them did."""
    while STARTED:
        STARTED.pop().result()


def build_now(text, out, defines=()):
    with tempfile.TemporaryDirectory() as top:
        path = os.path.join(top, "it.spec")
        with open(path, "wb") as file:
            file.write(text)
        command = ["rpmbuild", "-ba", "--nodeps", path, "--define", f"_topdir {top}", "--define", f"_tmppath {top}"]
        command += ["--define", "_buildhost build.example.invalid", "--define", "use_source_date_epoch_as_buildtime 1"]
        for define in defines:
            command += ["--define", define]
        # A time of its own for each, by its name and version.
        epoch = 1_700_000_000 + zlib.crc32(text.split(b"License:")[0]) % 10_000_000
        done = subprocess.run(command, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C"})
        if done.returncode != 0:
            print(done.stdout.decode(errors="replace")[-1500:], done.stderr.decode(errors="replace")[-1500:], file=sys.stderr)
            raise SystemExit(f"rpmbuild failed:\n{text[:600].decode(errors='replace')}")
        for folder in ("RPMS", "SRPMS"):
            for at, _, names in os.walk(os.path.join(top, folder)):
                for name in names:
                    shutil.copy(os.path.join(at, name), os.path.join(out, name))


def matrix(out):
    build(spec("empty", "BuildArch: noarch"), out)
    build(spec("arched", install="install -D /bin/true %{buildroot}/usr/bin/arched\ninstall -D /bin/ls %{buildroot}/usr/sbin/ls2",
               files="/usr/bin/arched\n/usr/sbin/ls2"), out)
    build(spec("relations", """Epoch: 7
Provides: plain
Provides: versioned = 3:1.2-3.el9
Provides: without-release = 2
Provides: /usr/bin/own-tool
Requires: plain
Requires: other
Requires: other
Requires: other >= 2
Requires: below < 1:2-3
Requires: /usr/bin/own-tool
Requires: /bin/sh
Requires: /usr/share/own
Requires: libc.so.6(GLIBC_2.3.4)(64bit)
Requires: libc.so.6(GLIBC_2.34)(64bit)
Requires: libc.so.6()(64bit)
Requires: libc.so.6(GLIBC_2.4)(64bit)
Requires(pre): before
Requires(post): after >= 1
Requires(postun): later
Requires(pretrans): earlier
Requires: before
Requires: (one and two)
Requires: (three if four else five)
Requires: (six >= 1 with six < 2)
Recommends: wanted >= 1
Suggests: nice
Suggests: (nice if other)
Supplements: (relations and langpack)
Enhances: shell = 5
Conflicts: enemy <= 4:2
Conflicts: foe
Obsoletes: old < 1
Obsoletes: older = 2-2
OrderWithRequires: first
""", install="install -D /bin/true %{buildroot}/usr/bin/own-tool\nmkdir -p %{buildroot}/usr/share/own",
               files="/usr/bin/own-tool\n%dir /usr/share/own"), out)
    build(spec("kinds", "BuildArch: noarch", install="""
cd %{buildroot}
mkdir -p etc/kinds var/log var/cache/kinds usr/lib usr/share/doc/kinds usr/share/man/man1 usr/sbin
touch etc/kinds/a etc/kinds/b etc/kinds/c var/log/kinds.log usr/lib/sendmail usr/lib/other usr/share/doc/kinds/README usr/sbin/capable
ln -s ../lib/other usr/sbin/link
ln etc/kinds/a etc/kinds/hard
mkfifo usr/lib/fifo
touch 'usr/share/doc/kinds/a b' 'usr/share/doc/kinds/<&">' "usr/share/doc/kinds/it's"
""", files="""%dir /etc/kinds
%config /etc/kinds/a
%config(noreplace) /etc/kinds/b
%config(missingok) /etc/kinds/c
/etc/kinds/hard
%ghost /var/log/kinds.log
%ghost %dir /var/cache/kinds
/usr/lib/sendmail
/usr/lib/other
/usr/lib/fifo
%attr(4755, root, root) %caps(cap_net_raw=ep) /usr/sbin/capable
/usr/sbin/link
%doc /usr/share/doc/kinds
"""), out)
    build(spec("scripts", "BuildArch: noarch", rest="""%pre
echo pre
%post -p /sbin/ldconfig
%preun
echo preun
%postun
echo postun
%posttrans -p <lua>
print("x")
%triggerin -- bash
echo trigger
"""), out)
    dated = "\n\n".join(f"* Mon Nov {day:02d} 2023 Person {n} <p{n}@example.invalid>   - 1.{n}\n- change {n}\n- and <more> & \"more\""
                        for n, day in enumerate([27, 27, 27, 20, 20, 13, 6, 6, 6, 6, 6, 6, 6]))
    build(spec("changes", "BuildArch: noarch\nURL: https://example.invalid/?a=1&b=2\nVendor: V <v>\nPackager: P \"p\"\nGroup: Some/Group",
               rest="%changelog\n" + dated + "\n"), out)
    latin1 = "na\xefve caf\xe9 \xa7 \x93quoted\x94".encode("latin-1")
    build(spec("latin1", b"BuildArch: noarch\nVendor: " + latin1, summary=latin1, description=latin1 + b"\nline",
               install=b"mkdir -p %{buildroot}/usr/share/x\ntouch %{buildroot}/usr/share/x/" + "\xe9t\xe9".encode("latin-1"),
               files=b"/usr/share/x", rest=b"%changelog\n* Mon Nov 27 2023 " + "J\xf6rg".encode("latin-1") + b" <j@example.invalid> - 1\n- " + latin1 + b"\n"), out)
    build(spec("utf8", "BuildArch: noarch\nSummary(de): Übung", summary="naïve 日本語 €", description="𝄞 clef\n\ttabbed\u2028line",
               install="mkdir -p %{buildroot}/usr/share/x\ntouch %{buildroot}/usr/share/x/日本", files="/usr/share/x"), out)
    # rpmbuild takes no spec file with such bytes, but what macros make of it.
    byte = lambda n: f"%{{lua:print(string.char({n}))}}"
    build(spec("control", "BuildArch: noarch", summary=f"a{byte(1)}b", description=f"bell {byte(7)} escape {byte(27)}[1m form {byte(12)} del {byte(127)} end"), out)
    build(spec("twenty-thousand", "BuildArch: noarch", install="mkdir -p %{buildroot}/usr/share/t\ncd %{buildroot}/usr/share/t\nseq -f %%05.0f 1 20000 | xargs touch\n",
               files="/usr/share/t"), out, ["_binary_payload w1.gzdio"])
    for kind in ("w9.gzdio", "w3.zstdio", "w2.xzdio", "w9.bzdio", "w.ufdio"):
        name = "packed-" + re.sub(r"\W", "", kind)
        build(spec(name, "BuildArch: noarch", install=f"install -D /etc/services %{{buildroot}}/usr/share/{name}/services", files=f"/usr/share/{name}"),
              out, [f"_binary_payload {kind}", f"_source_payload {kind}"])
    for version in ("1.0~rc1", "1.0^git1", "1.0"):
        build(spec("versions", "BuildArch: noarch\nEpoch: 4000000").replace(b"Version: 1.0", b"Version: " + version.encode()), out)


def many(out, count):
    packages = "".join(f"%package -n many-{n}\nSummary: one of many\nRequires: many-{(n + 1) % count} >= 1\n%description -n many-{n}\n{n}\n%files -n many-{n}\n"
                       for n in range(count))
    text = spec("many", "BuildArch: noarch").replace(b"%install", packages.encode() + b"%install", 1)
    build(text, out, ["_binary_payload w1.gzdio"])


def debs(out, folder, count):
    """The contents of real packages, as rpms: names, owners, links and modes as people have them."""
    paths = sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".deb"))
    chosen, seen = [], set()
    for path in sorted(paths, key=lambda path: (os.path.getsize(path) % 1009, path)):
        name = os.path.basename(path).split("_")[0]
        if name not in seen and 5_000 < os.path.getsize(path) < 400_000:
            seen.add(name)
            chosen.append(path)
    made = 0
    while chosen and made < count:
        some, chosen = chosen[: count - made], chosen[count - made :]
        made += sum(WORKERS.map(lambda path: from_deb(out, path), some))
    if made < count:
        raise SystemExit(f"only {made} of {count} packages can be made of those in {folder}")


def from_deb(out, path):
    fields = subprocess.run(["dpkg-deb", "-f", path], capture_output=True, text=True, check=True).stdout
    fields = {name: value.strip() for name, value in re.findall(r"^([^\s:]+):((?:.*\n?)(?:[ \t].*\n?)*)", fields, re.M)}
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["dpkg-deb", "-x", path, root], check=True)
        listed = []
        for at, folders, names in os.walk(root):
            inside = at[len(root):]
            listed += [f'%dir "{inside}"'] if inside and inside.count("/") > 2 else []
            listed += [f'"{inside}/{entry}"' for entry in names + [f for f in folders if os.path.islink(os.path.join(at, f))]]
        # A list of files has its own syntax for these.
        if any(re.search(r'[%*?\[\]{}"\\\n]', line.removeprefix("%dir ")[1:-1]) for line in listed):
            return False
        version, _, release = re.sub(r"^\d+:", "", fields["Version"]).partition("-")
        description = fields["Description"].replace("%", "%%")
        text = spec(fields["Package"], "", files="\n".join(listed), install=f"cp -a {root}/. %{{buildroot}}/", summary=description.split("\n")[0],
                    description=description, rest="%changelog\n* Mon Nov 27 2023 " + fields["Maintainer"].replace("%", "%%") + " - 1\n- built\n")
        text = text.replace(b"Version: 1.0", b"Version: " + version.replace("-", "_").encode(), 1)
        text = text.replace(b"Release: 1", b"Release: " + (release or "1").replace("-", "_").encode(), 1)
        build_now(text, out, ["_binary_payload w1.gzdio"])
    return True


def main():
    words = sys.argv[1:]
    out = words.pop(0)
    os.makedirs(out, exist_ok=True)
    matrix(out)
    while words:
        word = words.pop(0)
        if word == "--many":
            many(out, int(words.pop(0)))
        elif word == "--debs":
            debs(out, words.pop(0), int(words.pop(0)))
    finish()
    print(len([name for name in os.listdir(out) if name.endswith(".rpm")]))


if __name__ == "__main__":
    main()
