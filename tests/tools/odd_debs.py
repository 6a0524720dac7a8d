#!/usr/bin/env python3
"""Writes debs with one oddity each, byte by byte: odd_debs.py FOLDER

Each is FOLDER/<case>.deb, is called odd-<case> (unless the name is the oddity), and has one file below
/usr/share. Prints `<case>\t<what is odd>` for each, in order.
"""
import bz2
import gzip
import lzma
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 6, mtime=0),
    ".xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    ".bz2": bz2.compress,
    ".lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, preset=0),
    ".zst": zstd,
}


# ---- ar ----------------------------------------------------------------------------------------


def member(name, data, date="0", owner="0", group="0", mode="100644", size=None, end=b"`\n", pad=b"\n"):
    size = len(data) if size is None else size
    head = f"{name:<16}{date:<12}{owner:<6}{group:<6}{mode:<8}{size:<10}".encode() + end
    return head + data + (pad if len(data) % 2 else b"")


def ar(*members):
    return b"!<arch>\n" + b"".join(members)


VERSION = member("debian-binary", b"2.0\n")


# ---- tar ---------------------------------------------------------------------------------------


def block(path, content=b"", kind=b"0", link=b"", mode=b"0000644\0", owner=b"0000000\0", group=b"0000000\0", time=b"00000000000\0",
          size=None, magic=b"ustar  \0", user=b"root", group_name=b"root", prefix=b"", checksum=None, long_names=True):
    head = b""
    if long_names and len(path) > 100:
        head += block(b"././@LongLink", path + b"\0", b"L")
    if long_names and len(link) > 100:
        head += block(b"././@LongLink", link + b"\0", b"K")
    size = b"%011o\0" % len(content) if size is None else size
    fields = [(path, 100), (mode, 8), (owner, 8), (group, 8), (size, 12), (time, 12), (b"        ", 8), (kind, 1), (link, 100), (magic, 8),
              (user, 32), (group_name, 32), (b"", 16), (prefix, 155), (b"", 12)]
    raw = b"".join(value[:width].ljust(width, b"\0") for value, width in fields)
    total = sum(raw) if checksum is None else checksum
    raw = raw[:148] + b"%06o\0 " % total + raw[156:]
    return head + raw + content + b"\0" * (-len(content) % 512)


END = b"\0" * 1024


def folders(path):
    """Entries for the folders of a path like usr/share/x/file."""
    parts = path.split(b"/")[:-1]
    return b"".join(block(b"./" + b"/".join(parts[: n + 1]) + b"/", kind=b"5", mode=b"0000755\0") for n in range(len(parts)))


ROOT = block(b"./", kind=b"5", mode=b"0000755\0")


# ---- one package -------------------------------------------------------------------------------


def control(case, **fields):
    """The text of a control file. A field that is None is left out; `more` is appended as it is."""
    more = fields.pop("more", "")
    all_fields = {"Package": f"odd-{case}", "Version": "1.0-1", "Architecture": "all", "Maintainer": "Odd <odd@example.org>",
                  "Description": "one oddity"}
    for name, value in fields.items():
        all_fields[name.replace("_", "-")] = value
    text = "".join(f"{name}: {value}\n" for name, value in all_fields.items() if value is not None)
    return (text + more).encode("utf-8", "surrogateescape")


def control_tar(text, *others, first=b""):
    return ROOT + first + block(b"./control", text) + b"".join(others) + END


def data_tar(case, *entries, own=True):
    path = b"usr/share/odd-%s/file" % case.encode()
    mine = folders(path) + block(b"./" + path, b"odd\n") if own else b""
    return ROOT + mine + b"".join(entries) + END


def deb(case, text=None, control_archive=None, data_archive=None, packed=".gz", control_packed=None):
    control_packed = packed if control_packed is None else control_packed
    text = control(case) if text is None else text
    control_archive = control_tar(text) if control_archive is None else control_archive
    data_archive = data_tar(case) if data_archive is None else data_archive
    return ar(VERSION, member("control.tar" + control_packed, PACKERS[control_packed](control_archive)),
              member("data.tar" + packed, PACKERS[packed](data_archive)))


CASES = {}


def add(case, what, content):
    assert case not in CASES, case
    CASES[case] = what
    (folder / f"{case}.deb").write_bytes(content)


def fields(case, what, more="", **changed):
    add(case, what, deb(case, control(case, more=more, **changed)))


def text(case, what, bytes_):
    add(case, what, deb(case, bytes_))


def data(case, what, *entries, own=True):
    add(case, what, deb(case, data_archive=data_tar(case, *entries, own=own)))


def parts(case):
    return member("control.tar.gz", PACKERS[".gz"](control_tar(control(case)))), member("data.tar.gz", PACKERS[".gz"](data_tar(case)))


# ---- the ar archive ----------------------------------------------------------------------------

add("plain", "nothing", deb("plain"))
for case, what, build in [
    ("ar-slashes", "ar names end with a slash, as GNU ar writes them",
     lambda c, d: ar(member("debian-binary/", b"2.0\n"), member("control.tar.gz/", c[60:60 + int(c[48:58])]), member("data.tar.gz/", d[60:60 + int(d[48:58])]))),
    ("ar-underscore-before", "a member _x before control.tar", lambda c, d: ar(VERSION, member("_x", b"odd"), c, d)),
    ("ar-underscore-after", "a member _gpgorigin behind data.tar", lambda c, d: ar(VERSION, c, d, member("_gpgorigin", b"odd"))),
    ("ar-member-after", "a member foo behind data.tar", lambda c, d: ar(VERSION, c, d, member("foo", b"odd"))),
    ("ar-data-twice", "data.tar.gz is there twice", lambda c, d: ar(VERSION, c, d, d)),
    ("ar-control-after", "control.tar.gz again behind data.tar", lambda c, d: ar(VERSION, c, d, c)),
    ("ar-member-before", "a member foo before control.tar", lambda c, d: ar(VERSION, member("foo", b"odd!"), c, d)),
    ("ar-member-between", "a member foo between the two", lambda c, d: ar(VERSION, c, member("foo", b"odd!"), d)),
    ("ar-control-twice", "control.tar.gz is there twice before data.tar", lambda c, d: ar(VERSION, c, c, d)),
    ("ar-data-first", "data.tar comes before control.tar", lambda c, d: ar(VERSION, d, c)),
    ("ar-no-data", "there is no data.tar", lambda c, d: ar(VERSION, c)),
    ("ar-no-control", "there is no control.tar", lambda c, d: ar(VERSION, d)),
    ("ar-no-version", "there is no debian-binary", lambda c, d: ar(c, d)),
    ("ar-version-minor", "the format version is 2.1", lambda c, d: ar(member("debian-binary", b"2.1\n"), c, d)),
    ("ar-version-lines", "debian-binary has more lines", lambda c, d: ar(member("debian-binary", b"2.0\nmore\nlines\n"), c, d)),
    ("ar-version-no-newline", "debian-binary has no newline", lambda c, d: ar(member("debian-binary", b"2.0"), c, d)),
    ("ar-version-crlf", "debian-binary ends with CR LF", lambda c, d: ar(member("debian-binary", b"2.0\r\n"), c, d)),
    ("ar-version-3", "the format version is 3.0", lambda c, d: ar(member("debian-binary", b"3.0\n"), c, d)),
    ("ar-version-text", "the format version is 2.x", lambda c, d: ar(member("debian-binary", b"2.x\n"), c, d)),
    ("ar-pad-zero", "a member is padded with NUL and not a newline", lambda c, d: ar(VERSION, member("_x", b"odd", pad=b"\0"), c, d)),
    ("ar-pad-missing", "the byte that pads the last member is missing", lambda c, d: ar(VERSION, c, d, member("_x", b"odd", pad=b""))),
    ("ar-rubbish", "seven bytes of rubbish behind the last member", lambda c, d: ar(VERSION, c, d) + b"rubbish"),
    ("ar-zeros", "a hundred zeros behind the last member", lambda c, d: ar(VERSION, c, d) + b"\0" * 100),
    ("ar-cut", "the last member is cut off", lambda c, d: ar(VERSION, c, d)[:-20]),
    ("ar-date-negative", "a date is negative", lambda c, d: ar(member("debian-binary", b"2.0\n", date="-1"), c, d)),
    ("ar-date-blank", "a date is blank", lambda c, d: ar(member("debian-binary", b"2.0\n", date=""), c, d)),
    ("ar-owner-blank", "an owner is blank", lambda c, d: ar(member("debian-binary", b"2.0\n", owner="", group=""), c, d)),
    ("ar-mode-text", "a mode is no number", lambda c, d: ar(member("debian-binary", b"2.0\n", mode="rw"), c, d)),
    ("ar-size-plus", "a size has a plus before it", lambda c, d: ar(member("debian-binary", b"2.0\n", size="+4"), c, d)),
    ("ar-size-huge", "a size is larger than the file", lambda c, d: ar(VERSION, c, member("data.tar.gz", b"", size=9999999999))),
    ("ar-end", "a header does not end as one", lambda c, d: ar(member("debian-binary", b"2.0\n", end=b"xx"), c, d)),
    ("ar-magic", "the magic is another", lambda c, d: b"!<arcx>\n" + ar(VERSION, c, d)[8:]),
]:
    add(case, what, build(*parts(case)))

# ---- compression -------------------------------------------------------------------------------

for ending, name in [("", "nothing"), (".xz", "xz"), (".zst", "zstd")]:
    case = "pack-" + name
    add(case, f"both archives are packed with {name}", deb(case, packed=ending))
for ending, name in [(".bz2", "bzip2"), (".lzma", "lzma")]:
    case = "pack-data-" + name
    add(case, f"data.tar is packed with {name}", deb(case, packed=ending, control_packed=".gz"))
    case = "pack-control-" + name
    add(case, f"control.tar is packed with {name}", deb(case, packed=".gz", control_packed=ending))


def packed_data(case, what, ending, pack):
    control_member = parts(case)[0]
    add(case, what, ar(VERSION, control_member, member("data.tar" + ending, pack(data_tar(case)))))


def halves(pack):
    # (dpkg 1.21 reads half a block at the end of a stream, and gives up; what cuts elsewhere is as good.)
    return lambda tar: pack(tar[:1024]) + pack(tar[1024:])


packed_data("pack-lzip", "data.tar is called .lz", ".lz", PACKERS[".xz"])
packed_data("pack-gz-streams", "two gzip streams in a row", ".gz", halves(PACKERS[".gz"]))
packed_data("pack-xz-streams", "two xz streams in a row", ".xz", halves(PACKERS[".xz"]))
packed_data("pack-zst-frames", "two zstd frames in a row", ".zst", halves(PACKERS[".zst"]))
packed_data("pack-bz2-streams", "two bzip2 streams in a row", ".bz2", halves(PACKERS[".bz2"]))
packed_data("pack-gz-rubbish", "rubbish behind the gzip stream", ".gz", lambda tar: PACKERS[".gz"](tar) + b"rubbish")
packed_data("pack-xz-rubbish", "rubbish behind the xz stream", ".xz", lambda tar: PACKERS[".xz"](tar) + b"rubbish")
packed_data("pack-xz-cut", "the xz stream is cut off", ".xz", lambda tar: PACKERS[".xz"](tar)[:-12])
packed_data("pack-gz-sum", "the gzip checksum is wrong", ".gz", lambda tar: PACKERS[".gz"](tar)[:-8] + b"\1\2\3\4" + PACKERS[".gz"](tar)[-4:])
packed_data("pack-mislabelled", "data.tar.gz is packed with xz", ".gz", PACKERS[".xz"])
packed_data("pack-empty", "data.tar.gz is empty", ".gz", lambda tar: b"")
packed_data("pack-xz-window", "xz with a dictionary of 256 MiB", ".xz",
            lambda tar: lzma.compress(tar, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20, "mode": lzma.MODE_FAST, "nice_len": 32,
                                                     "mf": lzma.MF_HC3, "depth": 1}]))
packed_data("pack-zeros", "300 MiB of zeros behind the tar, in zstd", ".zst", lambda tar: zstd(tar + b"\0" * (300 << 20), "-3"))

# ---- the data archive --------------------------------------------------------------------------


def path_case(case, what, path, kind=b"0", **more):
    data(case, what, block(path, b"odd\n" if kind == b"0" else b"", kind, **more))


def near(case, rest):
    return b"usr/share/odd-%s/" % case.encode() + rest


for case, what, start in [
    ("path-dot-slashes", "a path starts with .//", b".//"),
    ("path-dot-dot-slash", "a path starts with ././", b"././"),
    ("path-absolute", "a path is absolute", b"/"),
    ("path-bare", "a path starts with nothing", b""),
]:
    path_case(case, what, start + near(case, b"other"))
path_case("path-double-slash", "a path has two slashes in a row", b"./" + near("path-double-slash", b"/other"))
path_case("path-inner-dot", "a path has a . in the middle", b"./" + near("path-inner-dot", b"./other"))
path_case("path-parent", "a path has .. in the middle", b"./" + near("path-parent", b"../odd-path-parent/other"))
path_case("path-outside", "a path leads out with ..", b"../" * 9 + b"tmp/odd-outside")
path_case("path-double-slash-same", "the same path again, with two slashes", b"./" + near("path-double-slash-same", b"/file"))
path_case("path-empty", "a path is empty", b"")
path_case("path-newline", "a path has a line break", b"./" + near("path-newline", b"a\nb"))
path_case("path-escape", "a path has an ESC", b"./" + near("path-escape", b"a\x1b[1mb"))
path_case("path-latin1", "a path is not UTF-8", b"./" + near("path-latin1", b"caf\xe9"))
path_case("path-blank", "a path has a blank", b"./" + near("path-blank", b"a b"))
path_case("path-part-246", "a part of a path has 246 bytes", b"./" + near("path-part-246", b"a" * 246))
path_case("path-part-247", "a part of a path has 247 bytes", b"./" + near("path-part-247", b"a" * 247))
path_case("path-part-255", "a part of a path has 255 bytes", b"./" + near("path-part-255", b"a" * 255))
path_case("path-part-256", "a part of a path has 256 bytes", b"./" + near("path-part-256", b"a" * 256))
path_case("path-folder-255", "a folder's name has 255 bytes", b"./" + near("path-folder-255", b"a" * 255 + b"/"), b"5", mode=b"0000755\0")
path_case("path-link-255", "a symlink's name has 255 bytes", b"./" + near("path-link-255", b"a" * 255), b"2", link=b"x")
long_parts = [b"d%02d" % n + b"d" * 117 for n in range(31)]
data("path-3800", "a path has 3800 bytes",
     *[block(b"./" + near("path-3800", b"/".join(long_parts[: n + 1]) + b"/"), kind=b"5", mode=b"0000755\0") for n in range(31)],
     block(b"./" + near("path-3800", b"/".join(long_parts) + b"/f"), b"odd\n"))
path_case("path-5000", "a path has 5000 bytes", b"./" + near("path-5000", b"/".join([b"d" * 120] * 41)))
data("path-ustar", "a long path in two fields, as ustar has it",
     *[block(b"./" + near("path-ustar", b"d" * 90 + b"/"), kind=b"5", mode=b"0000755\0")],
     block(b"f" * 90, b"odd\n", magic=b"ustar\x0000", prefix=b"./" + near("path-ustar", b"d" * 90), long_names=False))
data("path-conflict", "a file, and another below it", block(b"./" + near("path-conflict", b"file/below"), b"odd\n"))
data("path-file-folder", "a file, and a folder of the same path", block(b"./" + near("path-file-folder", b"file/"), kind=b"5", mode=b"0000755\0"))
data("path-twice", "a file is there twice", block(b"./" + near("path-twice", b"file"), b"other\n"))
data("path-folder-twice", "a folder is there twice", block(b"./" + near("path-folder-twice", b""), kind=b"5", mode=b"0000700\0"))
data("path-through-link", "a file lies below a symlink of the package", block(b"./" + near("path-through-link", b"link"), kind=b"2", link=b"."),
     block(b"./" + near("path-through-link", b"link/below"), b"odd\n"))
data("path-no-folders", "files whose folders are in no entry", block(b"./opt/odd-path-no-folders/file", b"odd\n"), own=False)
data("path-folder-later", "a folder's entry comes behind its file", block(b"./opt/odd-later/file", b"odd\n"),
     block(b"./opt/", kind=b"5", mode=b"0000755\0"), block(b"./opt/odd-later/", kind=b"5", mode=b"0000755\0"), own=False)
data("path-folder-no-slash", "a folder's path has no slash at its end", block(b"./" + near("path-folder-no-slash", b"sub"), kind=b"5", mode=b"0000755\0"))
data("path-old-folder", "a folder as old tars have it: a file whose path ends with a slash",
     block(b"./" + near("path-old-folder", b"sub/"), mode=b"0000755\0"))
add("path-no-root", "there is no entry for the root", deb("path-no-root", data_archive=data_tar("path-no-root")[512:]))
add("data-nothing", "there is no file at all", deb("data-nothing", data_archive=END))

data("tar-hardlink", "a hardlink", block(b"./" + near("tar-hardlink", b"again"), kind=b"1", link=b"./" + near("tar-hardlink", b"file")))
data("tar-hardlink-early", "a hardlink comes before its file", block(b"./" + near("tar-hardlink-early", b"again"), kind=b"1",
     link=b"./" + near("tar-hardlink-early", b"later")), block(b"./" + near("tar-hardlink-early", b"later"), b"odd\n"))
data("tar-hardlink-nowhere", "a hardlink to what is not in the package", block(b"./" + near("tar-hardlink-nowhere", b"again"), kind=b"1", link=b"./etc/passwd"))
data("tar-hardlink-dots", "a hardlink's target is spelled with //", block(b"./" + near("tar-hardlink-dots", b"again"), kind=b"1",
     link=b".//" + near("tar-hardlink-dots", b"/file")))
data("tar-hardlink-folder", "a hardlink to a folder", block(b"./" + near("tar-hardlink-folder", b"again"), kind=b"1", link=b"./usr/share"))
data("tar-symlink-absolute", "a symlink to an absolute path", block(b"./" + near("tar-symlink-absolute", b"link"), kind=b"2", link=b"/etc/passwd"))
data("tar-symlink-empty", "a symlink to nothing", block(b"./" + near("tar-symlink-empty", b"link"), kind=b"2"))
data("tar-symlink-long", "a symlink to a path of 5000 bytes", block(b"./" + near("tar-symlink-long", b"link"), kind=b"2", link=b"x/" * 2500))
for kind, case, what in [(b"3", "character-device", "a character device"), (b"4", "block-device", "a block device"), (b"6", "fifo", "a fifo"),
                         (b"7", "contiguous", "a contiguous file"), (b"S", "sparse", "a sparse file as GNU tar has it"),
                         (b"V", "volume", "a volume header"), (b"D", "dump", "a GNU dump folder"), (b"x", "pax", "a pax header"),
                         (b"g", "pax-global", "a global pax header"), (b"Z", "unknown", "a type that nobody knows")]:
    body = b"18 path=usr/x/odd\n" if kind in b"xg" else b""
    data("tar-" + case, f"an entry is {what}", block(b"./" + near("tar-" + case, b"thing"), body, kind), block(b"./" + near("tar-" + case, b"next"), b"odd\n"))
data("tar-setuid", "a file is setuid", block(b"./" + near("tar-setuid", b"suid"), b"odd\n", mode=b"0004755\0"))
data("tar-owner-256", "an owner is in base 256", block(b"./" + near("tar-owner-256", b"x"), b"odd\n", owner=b"\x80\0\0\0\0\0\x03\xe8"))
data("tar-size-256", "a size is in base 256", block(b"./" + near("tar-size-256", b"x"), b"odd\n", size=b"\x80" + b"\0" * 10 + b"\4"))
data("tar-time-256", "a time is in base 256", block(b"./" + near("tar-time-256", b"x"), b"odd\n", time=b"\x80" + b"\0" * 10 + b"\4"))
data("tar-time-negative", "a time is negative, in base 256", block(b"./" + near("tar-time-negative", b"x"), b"odd\n", time=b"\xff" * 12))
data("tar-mode-256", "a mode is in base 256", block(b"./" + near("tar-mode-256", b"x"), b"odd\n", mode=b"\x80\0\0\0\0\0\x01\xa4"))
data("tar-size-text", "a size is no number", block(b"./" + near("tar-size-text", b"x"), b"odd\n", size=b"abc"))
data("tar-owner-text", "an owner is no number", block(b"./" + near("tar-owner-text", b"x"), b"odd\n", owner=b"abc"))
data("tar-time-blank", "a time is blank", block(b"./" + near("tar-time-blank", b"x"), b"odd\n", time=b" " * 12))
data("tar-checksum", "a checksum is wrong", block(b"./" + near("tar-checksum", b"x"), b"odd\n", checksum=1))
data("tar-v7", "an entry has no magic, as in a v7 tar", block(b"./" + near("tar-v7", b"x"), b"odd\n", magic=b"", user=b"", group_name=b""))
data("tar-user", "an owner's name is known nowhere", block(b"./" + near("tar-user", b"x"), b"odd\n", user=b"nobody-has-this"))
data("tar-owner-large", "an owner's id has 32 bits", block(b"./" + near("tar-owner-large", b"x"), b"odd\n", owner=b"\x80\0\0\0\xff\xff\xff\xfe"))
data("tar-two-long-names", "two long names for one entry", block(b"././@LongLink", b"a\0", b"L"), block(b"././@LongLink", b"./usr/share/b\0", b"L"),
     block(b"./usr/share/c", b"odd\n"))
data("tar-long-name-alone", "a long name without an entry", block(b"././@LongLink", b"./usr/share/b\0", b"L"))
add("tar-no-end", "the tar has no zeros at its end", deb("tar-no-end", data_archive=data_tar("tar-no-end")[:-1024]))
add("tar-one-zero-block", "the tar ends with one block of zeros", deb("tar-one-zero-block", data_archive=data_tar("tar-one-zero-block")[:-512]))
add("tar-rubbish", "text behind the end of the tar", deb("tar-rubbish", data_archive=data_tar("tar-rubbish") + b"rubbish" * 100))
add("tar-second", "a second tar behind the end of the first", deb("tar-second", data_archive=data_tar("tar-second") * 2))
add("tar-cut", "the tar ends inside a file", deb("tar-cut", data_archive=data_tar("tar-cut", block(b"./x", b"x" * 5000))[:-4096]))

# ---- the control archive -----------------------------------------------------------------------


def members(case, what, *others, text=None, first=b""):
    add(case, what, deb(case, control_archive=control_tar(control(case) if text is None else text, *others, first=first)))


members("control-last", "control is not the first member", first=block(b"./md5sums", b""))
add("control-missing", "there is no control file", deb("control-missing", control_archive=ROOT + block(b"./md5sums", b"") + END))
members("control-twice", "there are two control files", block(b"./control", control("control-twice", Version="2.0")))
add("control-nested", "control is in a folder", deb("control-nested", control_archive=ROOT + block(b"./x/", kind=b"5", mode=b"0000755\0") + block(b"./x/control", control("control-nested")) + END))
add("control-link", "control is a symlink", deb("control-link", control_archive=ROOT + block(b"./text", control("control-link")) + block(b"./control", kind=b"2", link=b"text") + END))
add("control-hardlink", "control is a hardlink", deb("control-hardlink", control_archive=ROOT + block(b"./text", control("control-hardlink")) + block(b"./control", kind=b"1", link=b"./text") + END))
add("control-bare", "control has no ./ before it", deb("control-bare", control_archive=block(b"control", control("control-bare")) + END))
add("control-slashes", "control is called .//control", deb("control-slashes", control_archive=ROOT + block(b".//control", control("control-slashes")) + END))
members("control-folder", "the control archive has a folder", block(b"./x/", kind=b"5", mode=b"0000755\0"))
members("control-folder-file", "the control archive has a folder with a file", block(b"./x/", kind=b"5", mode=b"0000755\0"), block(b"./x/y", b"odd"))
members("control-device", "the control archive has a device", block(b"./null", kind=b"3"))
members("control-symlink", "the control archive has a symlink", block(b"./link", kind=b"2", link=b"/etc/passwd"))
members("control-blank-name", "a file of the control archive has a blank in its name", block(b"./a b", b"odd"))
members("control-dotfile", "a file of the control archive starts with a dot", block(b"./.x", b"odd"))
members("control-long-name", "a file of the control archive has a name of 200 bytes", block(b"./" + b"a" * 200, b"odd"))
members("control-large-other", "a file of the control archive has 20 MiB", block(b"./shlibs", b"x 1 y\n" * 3_500_000))
members("control-large", "the control archive has 40 MiB", block(b"./blob", b"\0" * (40 << 20)))
members("conffiles-no-newline", "conffiles has no newline at its end", block(b"./conffiles", b"/usr/share/odd-conffiles-no-newline/file"))
members("conffiles-relative", "a conffile is no absolute path", block(b"./conffiles", b"usr/share/odd-conffiles-relative/file\n"))
members("conffiles-missing", "a conffile is not in the package", block(b"./conffiles", b"/etc/odd-missing\n"))
members("conffiles-long", "a line of conffiles has 1200 bytes", block(b"./conffiles", b"/etc/" + b"a/" * 600 + b"\n"))
members("conffiles-empty-line", "conffiles has an empty line", block(b"./conffiles", b"/usr/share/odd-conffiles-empty-line/file\n\n"))
members("conffiles-blank", "a line of conffiles starts with a blank", block(b"./conffiles", b" /usr/share/odd-conffiles-blank/file\n"))
members("conffiles-remove", "conffiles has remove-on-upgrade", block(b"./conffiles", b"remove-on-upgrade /etc/odd-gone\n"))
members("conffiles-remove-there", "conffiles has remove-on-upgrade for a file of the package",
        block(b"./conffiles", b"remove-on-upgrade /usr/share/odd-conffiles-remove-there/file\n"))
members("conffiles-flag", "conffiles has a flag that nobody knows", block(b"./conffiles", b"odd-flag /usr/share/odd-conffiles-flag/file\n"))
members("conffiles-twice", "a conffile is there twice", block(b"./conffiles", b"/usr/share/odd-conffiles-twice/file\n" * 2))
members("md5sums-text", "md5sums is no list of sums", block(b"./md5sums", b"odd\n"))
members("md5sums-wrong", "a sum in md5sums is wrong", block(b"./md5sums", b"0" * 32 + b"  usr/share/odd-md5sums-wrong/file\n"))
members("triggers-good", "triggers has an interest", block(b"./triggers", b"# odd\ninterest-noawait /usr/share/odd\nactivate odd-trigger\n"))
members("triggers-unknown", "triggers has a directive that nobody knows", block(b"./triggers", b"oddly /usr/share/odd\n"))
members("triggers-no-name", "triggers has an interest in nothing", block(b"./triggers", b"interest\n"))
members("triggers-bad-name", "a trigger's name has a blank", block(b"./triggers", b"interest a b\n"))
members("script-no-interpreter", "a postrm has no #! line", block(b"./postrm", b"true\n", mode=b"0000755\0"))
members("script-not-executable", "a postrm is not executable", block(b"./postrm", b"#!/bin/sh\ntrue\n"))

# ---- the control file --------------------------------------------------------------------------

text("text-no-newline", "control has no newline at its end", control("text-no-newline")[:-1])
text("text-empty", "control is empty", b"")
text("text-crlf", "lines end with CR LF", control("text-crlf").replace(b"\n", b"\r\n"))
text("text-crlf-lines", "continuation lines end with CR LF", control("text-crlf-lines", Description="odd\n more\n .\n lines").replace(b"\n", b"\r\n"))
text("text-two-stanzas", "there are two stanzas", control("text-two-stanzas") + b"\n" + control("text-two-stanzas-2"))
text("text-empty-lines-before", "empty lines before the stanza", b"\n\n" + control("text-empty-lines-before"))
text("text-empty-lines-after", "empty lines behind the stanza", control("text-empty-lines-after") + b"\n\n")
text("text-blank-line-after", "a line of blanks behind the stanza", control("text-blank-line-after") + b" \n")
text("text-latin1", "a field is not UTF-8", control("text-latin1", Maintainer="Andr\udce9 <a@example.org>"))
text("text-bom", "control starts with a byte order mark", b"\xef\xbb\xbf" + control("text-bom"))
text("text-comment", "a line is a comment", control("text-comment", more="# odd\n"))
text("text-no-colon", "a line has no colon", control("text-no-colon", more="Odd\n"))
text("text-continuation-first", "the first line is a continuation", b" odd\n" + control("text-continuation-first"))
text("text-tab", "a continuation line starts with a tab", control("text-tab", Description="odd\n\todd"))
text("text-blank-line", "a continuation line has blanks only", control("text-blank-line", Description="odd\n \n odd"))
text("text-nul", "a field has a NUL", control("text-nul", Description="od\0d"))
for name, sign, what in [("nel", "\x85", "U+0085"), ("nbsp", "\xa0", "U+00A0"), ("line-separator", "\u2028", "U+2028"), ("bidi", "\u202e", "U+202E"),
                         ("escape", "\x1b[31m", "an ESC"), ("bell", "\a", "a BEL"), ("delete", "\x7f", "a DEL"), ("form-feed", "\f", "a form feed"),
                         ("vertical-tab", "\v", "a vertical tab"), ("carriage-return", "\r", "a carriage return"), ("private", "\ue000", "U+E000"),
                         ("noncharacter", "\uffff", "U+FFFF")]:
    fields("sign-" + name, f"the description has {what}", Description=f"one{sign}oddity\n more{sign}of it")
fields("sign-nbsp-line", "a continuation line of U+00A0 alone", Description="odd\n \xa0\n odd")
fields("sign-nel-line", "a continuation line of U+0085 alone", Description="odd\n \x85\n odd")

fields("stanza-900k", "a stanza of 900 KiB", Description="odd\n" + "\n".join([" " + "x" * 79] * (900 * 1024 // 81)))
fields("stanza-1023k", "a stanza of 1023 KiB", Description="odd\n" + "\n".join([" " + "x" * 79] * (1023 * 1024 // 81)))
fields("stanza-1100k", "a stanza of 1100 KiB", Description="odd\n" + "\n".join([" " + "x" * 79] * (1100 * 1024 // 81)))
fields("stanza-line", "one line of 500 KiB", Description="odd " + "x" * (500 << 10))
fields("stanza-fields", "200 more fields", more="".join(f"X-Odd-{n}: {n}\n" for n in range(200)))
fields("stanza-many-fields", "2000 more fields", more="".join(f"X-Odd-{n}: {n}\n" for n in range(2000)))
fields("stanza-field-name", "a field's name has 300 bytes", more="X-" + "o" * 298 + ": odd\n")
fields("stanza-long-field-name", "a field's name has 70,000 bytes", more="X-" + "o" * 70_000 + ": odd\n")

for name in ["Package", "Version", "Architecture", "Maintainer", "Description"]:
    fields("no-" + name.lower(), f"there is no field {name}", **{name: None})
    fields("empty-" + name.lower(), f"the field {name} is empty", **{name: ""})
fields("name-upper", "the name has capitals", Package="Odd-Upper")
fields("name-underscore", "the name has an underscore", Package="odd_underscore")
fields("name-one", "the name has one letter", Package="o")
fields("name-dash", "the name starts with a dash", Package="-odd")
fields("name-digit", "the name starts with a digit", Package="0odd")
fields("name-blank", "the name has a blank", Package="odd name")
fields("name-slash", "the name has a slash", Package="odd/name")
fields("name-200", "the name has 200 letters", Package="o" * 200)
fields("name-220", "the name has 220 letters", Package="o" * 220)
fields("name-300", "the name has 300 letters", Package="o" * 300)
fields("version-letter", "the version starts with a letter", Version="a1")
fields("version-underscore", "the version has an underscore", Version="1_0")
fields("version-blank", "the version has a blank", Version="1 0")
fields("version-slash", "the version has a slash", Version="1/0")
fields("version-no-revision", "the version ends with a dash", Version="1-")
fields("version-no-epoch", "the version starts with a colon", Version=":1")
fields("version-epoch", "the epoch has ten digits", Version="9999999999:1")
fields("version-epoch-max", "the epoch is 2147483647", Version="2147483647:1")
fields("version-epoch-over", "the epoch is 2147483648", Version="2147483648:1")
fields("version-epoch-text", "the epoch is no number", Version="a:1")
fields("version-colons", "the version has two colons", Version="1:2:3")
fields("version-200", "the version has 200 digits", Version="1" * 200)
fields("version-300", "the version has 300 digits", Version="1" * 300)
fields("arch-any", "the architecture is any", Architecture="any")
fields("arch-source", "the architecture is source", Architecture="source")
fields("arch-two", "there are two architectures", Architecture="amd64 arm64")
fields("arch-upper", "the architecture has capitals", Architecture="AMD64")
fields("arch-unknown", "the architecture is one that nobody knows", Architecture="oddarch")
fields("arch-slash", "the architecture has a slash", Architecture="a/b")
fields("multi-arch-odd", "Multi-Arch is odd", Multi_Arch="odd")
fields("multi-arch-upper", "Multi-Arch is Foreign", Multi_Arch="Foreign")
fields("multi-arch-same-all", "Multi-Arch is same, Architecture all", Multi_Arch="same")
fields("multi-arch-empty", "Multi-Arch is empty", Multi_Arch="")
fields("essential-odd", "Essential is odd", Essential="odd")
fields("essential-upper", "Essential is Yes", Essential="Yes")
fields("protected-odd", "Protected is odd", Protected="odd")
fields("important-odd", "Important is odd", Important="odd")
fields("build-essential-odd", "Build-Essential is odd", Build_Essential="odd")
fields("priority-odd", "Priority is odd", Priority="odd")
fields("priority-upper", "Priority is OPTIONAL", Priority="OPTIONAL")
fields("priority-empty", "Priority is empty", Priority="")
fields("priority-blank", "Priority has a blank", Priority="very odd")
fields("section-odd", "Section is odd", Section="odd/../odd odd")
fields("section-empty", "Section is empty", Section="")
fields("size-text", "Installed-Size is no number", Installed_Size="odd")
fields("size-negative", "Installed-Size is negative", Installed_Size="-1")
fields("size-huge", "Installed-Size has 30 digits", Installed_Size="9" * 30)
fields("size-empty", "Installed-Size is empty", Installed_Size="")
fields("twice", "a field is there twice", more="Homepage: a\nHomepage: b\n")
fields("twice-case", "a field is there twice, in capitals", more="Homepage: a\nHOMEPAGE: b\n")
fields("twice-version", "Version is there twice", more="Version: 2.0\n")
fields("lower-case", "the names of fields are small letters", Package=None, Version=None, Architecture=None, Maintainer=None, Description=None,
       more="package: odd-lower-case\nversion: 1.0\narchitecture: all\nmaintainer: O <o@example.org>\ndescription: odd\n")
fields("field-dash", "a field's name starts with a dash", more="-Odd: 1\n")
fields("field-blank", "a field's name has a blank", more="Odd field: 1\n")
fields("field-colon-blank", "a blank stands before a colon", more="Odd : 1\n")
fields("field-utf8", "a field's name is not ASCII", more="Öd: 1\n")
fields("maintainer-odd", "Maintainer has no address", Maintainer="odd")
fields("source-version", "Source has a version", Source="odd (2.0)")
fields("source-odd", "Source is no name", Source="odd/..")
fields("source-open", "Source has no closing parenthesis", Source="odd (2.0")
fields("source-version-odd", "Source has a version that is none", Source="odd (x y)")
fields("type-udeb", "Package-Type is udeb", Package_Type="udeb")
fields("type-deb", "Package-Type is deb", Package_Type="deb")
fields("type-odd", "Package-Type is odd", Package_Type="odd")
fields("index-filename", "there is a field Filename", Filename="pool/odd")
fields("index-size", "there is a field Size", Size="1")
fields("index-sha256", "there is a field SHA256", SHA256="0" * 64)
fields("index-status", "there is a field Status", Status="install ok installed")
fields("index-conffiles", "there is a field Conffiles", Conffiles="\n /etc/odd 0")
fields("index-config-version", "there is a field Config-Version", Config_Version="1")
fields("index-description-md5", "there is a field Description-md5", Description_md5="0" * 32)
fields("description-en", "there is Description-en", more="Description-en: odd\n more\n")
fields("tag", "Tag has several lines", Tag="\n role::odd,\n use::odd")
fields("built-using", "Built-Using is odd", Built_Using="a | b (>= 1)")
fields("homepage-odd", "Homepage is no address", Homepage="<odd>")

for case, what, value in [
    ("empty", "is empty", ""),
    ("comma-end", "ends with a comma", "a,"),
    ("comma-twice", "has two commas in a row", "a,, b"),
    ("comma-start", "starts with a comma", ", a"),
    ("line-start", "starts with an empty line", "\n a,\n b"),
    ("line-comma", "has its commas at the start of lines", "a\n , b"),
    ("line-empty", "has a line with a dot only", "a,\n .\n b"),
    ("bar-start", "starts with a bar", "| a"),
    ("bar-end", "ends with a bar", "a |"),
    ("bar", "has alternatives", "a | b"),
    ("archs", "has a list of architectures", "a [amd64]"),
    ("profile", "has a build profile", "a <!nocheck>"),
    ("operator", "has an operator ==", "a (== 1)"),
    ("operator-old", "has the old operators < and >", "a (< 1), b (> 1)"),
    ("operator-none", "has a version without an operator", "a (1)"),
    ("version-none", "has an operator without a version", "a (>=)"),
    ("version-letter", "has a version that starts with a letter", "a (>= x)"),
    ("version-underscore", "has a version with an underscore", "a (>= 1_0)"),
    ("version-blank", "has a version with a blank", "a (>= 1 0)"),
    ("version-epoch", "has a version with an epoch of text", "a (>= x:1)"),
    ("version-colon", "has a version that ends with a colon", "a (>= 1:)"),
    ("open", "has no closing parenthesis", "a (>= 1"),
    ("parentheses-behind", "has text behind a parenthesis", "a (>= 1) odd"),
    ("parentheses-twice", "has two versions", "a (>= 1) (<< 2)"),
    ("no-blank", "has no blank before a parenthesis", "a(>= 1)"),
    ("any", "has :any", "a:any"),
    ("arch", "has :amd64", "a:amd64"),
    ("native", "has :native", "a:native"),
    ("arch-odd", "has an architecture that nobody knows", "a:oddarch"),
    ("arch-empty", "has a colon and nothing", "a:"),
    ("arch-all", "has :all", "a:all"),
    ("upper", "has capitals", "Abc"),
    ("underscore", "has an underscore", "a_b"),
    ("name-one", "has a name of one letter", "x"),
    ("name-dash", "has a name that starts with a dash", "-a"),
    ("name-300", "has a name of 300 letters", "o" * 300),
    ("variable", "has a variable", "${misc:Depends}"),
    ("utf8", "is not ASCII", "äb"),
    ("tab", "has tabs", "a\t(>=\t1)"),
    ("many", "has 5,000 clauses", ", ".join(f"odd-{n}" for n in range(5000))),
    ("many-bars", "has 3,000 alternatives", " | ".join(f"odd-{n}" for n in range(3000))),
    ("many-more", "has 60,000 clauses", ",".join(f"o{n}" for n in range(60000))),
    ("itself", "is the package itself", "odd-depends-itself"),
    ("repeat", "has the same twice", "a, a, a (>= 1), a (>= 1)"),
    ("escape", "has an ESC", "a\x1b[1m"),
]:
    fields("depends-" + case, f"Depends {what}", Depends=value)
for name in ["Conflicts", "Breaks", "Replaces", "Provides"]:
    fields(name.lower() + "-bar", f"{name} has alternatives", **{name: "a | b"})
    fields(name.lower() + "-any", f"{name} has :any", **{name: "a:any"})
    fields(name.lower() + "-arch", f"{name} has :amd64", **{name: "a:amd64"})
    fields(name.lower() + "-itself", f"{name} is the package itself", **{name: f"odd-{name.lower()}-itself"})
fields("provides-equal", "Provides has (= 1)", Provides="a (= 1)")
for case, operator in [("at-least", ">="), ("at-most", "<="), ("less", "<<"), ("more", ">>"), ("old", "<")]:
    fields("provides-" + case, f"Provides has ({operator} 1)", Provides=f"a ({operator} 1)")
fields("provides-empty", "Provides is empty", Provides="")
fields("provides-comma", "Provides ends with a comma", Provides="a,")
fields("provides-line-start", "Provides starts with an empty line", Provides="\n a,\n b")
fields("provides-many", "Provides has 60,000 names", Provides=",".join(f"o{n}" for n in range(60000)))
fields("recommends-bad", "Recommends has no closing parenthesis", Recommends="a (>= 1")
fields("enhances-bar", "Enhances has alternatives", Enhances="a | b")
fields("pre-depends-itself", "Pre-Depends is the package itself", Pre_Depends="odd-pre-depends-itself")

for case, what in CASES.items():
    print(f"{case}\t{what}")
