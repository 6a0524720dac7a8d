#!/usr/bin/env python3
"""Debs that are wrong in many ways, and some that are not: the same ones for the same seed.

    mutate_debs.py FOLDER COUNT SEED

Writes FOLDER/NNNN-kind.deb. Each starts from a good package with a name of its own, so that none is
refused for another's sake; its data member is packed by dpkg-deb itself with xz, zstd, gzip or nothing,
its control member here with one of the four. Then, by kind:

    untouched   nothing
    bytes       flips, cuts, insertions, copies in the whole file
    ar          lies in the members' headers, members missing, twice, in another order
    tar         lies in the headers of a tar, with the checksum made right; or flips in the tar
    control     a control file that breaks a rule, or nearly does
    text        flips in the control file's text
"""
import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile

KINDS = ["bytes"] * 16 + ["ar"] * 5 + ["tar"] * 9 + ["control"] * 6 + ["text"] * 3 + ["untouched"]
DATE = 1_700_000_000
ENDINGS = {"none": "", "gzip": ".gz", "xz": ".xz", "zstd": ".zst"}


def raw_zstd(data):
    """A zstd frame of raw blocks (RFC 8878): no compressor needed."""
    out = struct.pack("<IBQ", 0xFD2FB528, 0xE0, len(data))
    blocks = [data[at : at + 65536] for at in range(0, len(data), 65536)] or [b""]
    for index, block in enumerate(blocks):
        out += struct.pack("<I", (index + 1 == len(blocks)) | len(block) << 3)[:3] + block
    return out


PACK = {
    "none": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC64, preset=1),
    "zstd": raw_zstd,
}


def members_of(deb):
    at, members = 8, []
    while at < len(deb):
        name, size = deb[at : at + 16].decode().strip(), int(deb[at + 48 : at + 58])
        members.append((name, deb[at + 60 : at + 60 + size]))
        at += 60 + size + size % 2
    return members


def data_members():
    """{how: [data.tar member packed by dpkg-deb]}, and the data tars as they are."""
    made, tars = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            tree = os.path.join(folder, f"tree{number}")
            os.makedirs(os.path.join(tree, "DEBIAN"))
            os.makedirs(os.path.join(tree, "usr/share/mutant", "d" * (number * 60 + 1)))
            with open(os.path.join(tree, "DEBIAN/control"), "w") as file:
                file.write("Package: mutant\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: x\n")
            noise = random.Random(number).randbytes(400 * number)
            for name, content in [("noise", noise), ("text", b"a line of text\n" * 200 * number), ("empty", b"")]:
                with open(os.path.join(tree, "usr/share/mutant", name), "wb") as file:
                    file.write(content)
            os.symlink("../share/mutant/text", os.path.join(tree, "usr/share/mutant/link"))
            os.link(os.path.join(tree, "usr/share/mutant/noise"), os.path.join(tree, "usr/share/mutant/again"))
            for how in ENDINGS:
                deb = os.path.join(folder, "out.deb")
                command = ["dpkg-deb", "--root-owner-group", f"-Z{how}", "-b", tree, deb]
                environment = os.environ | {"SOURCE_DATE_EPOCH": str(DATE)}
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
                member = members_of(open(deb, "rb").read())[2]
                made.setdefault(how, []).append(member[1])
                if how == "none":
                    tars.append(member[1])
    return made, tars


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), DATE, 0o644
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def header(name, size, lies):
    fields = {"name": name, "date": str(DATE), "uid": "0", "gid": "0", "mode": "100644", "size": str(size), "end": b"`\n"} | lies
    text = "".join(fields[key].ljust(width)[:width] for key, width in [("name", 16), ("date", 12), ("uid", 6), ("gid", 6), ("mode", 8), ("size", 10)])
    return text.encode("latin-1") + fields["end"]


def ar(members, lies=None):
    out = b"!<arch>\n"
    for index, (name, content) in enumerate(members):
        out += header(name, len(content), (lies or {}).get(index, {})) + content + b"\n" * (len(content) % 2)
    return out


def mutate_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(data) + 1)
        length = rng.choice([1, 1, 2, 8, 60, 512])
        what = rng.randrange(8)
        if what <= 2 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif what == 3:
            del data[at:]
        elif what == 4:
            data[at:at] = rng.randbytes(length)
        elif what == 5:
            del data[at : at + length]
        elif what == 6:
            data[at : at + length] = bytes([rng.choice([0, 0xFF, 0x20, 0x0A])]) * length
        else:
            other = rng.randrange(len(data) + 1)
            data[at:at] = data[other : other + length]
    return bytes(data)


def mutate_ar(rng, members):
    lies, what = {}, rng.randrange(9)
    index = rng.randrange(len(members))
    name, content = members[index]
    if what == 0:
        size = rng.choice([len(content) + 1, len(content) - 1, 0, 2**33, -1, "0x10", "1e3", "+5", " 12", ""])
        lies[index] = {"size": str(size)}
    elif what == 1:
        bad = ["control.tar.bz2", "data.tar.lzma", "control.tar", "data.tar", "debian-binary/", "/", "//", "#1/20", "x" * 16, "../../etc/p", "\xff\xfe", ""]
        members[index] = (rng.choice(bad), content)
    elif what == 2:
        lies[index] = {rng.choice(["date", "uid", "gid", "mode"]): rng.choice(["-1", "9" * 12, "x", "", "1 2", "0777777"])}
    elif what == 3:
        lies[index] = {"end": rng.choice([b"\n`", b"``", b"\0\0"])}
    elif what == 4:
        rng.shuffle(members)
    elif what == 5:
        members.insert(rng.randrange(len(members) + 1), rng.choice(members))
    elif what == 6:
        del members[index]
    elif what == 7:
        extra = rng.choice(["_extra", "extra", "_gpgorigin", "control.tar.gz", "data.tar.xz"])
        members.insert(rng.randrange(len(members) + 1), (extra, rng.randbytes(rng.choice([0, 1, 9]))))
    else:
        text = rng.choice([b"3.0\n", b"2.1\n", b"2.0", b"2.0\nmore\n", b"1.0\n", b"", b"2.0\r\n", b"2.\n", b" 2.0\n"])
        members[0] = ("debian-binary", text)
    return ar(members, lies)


def mutate_tar(rng, tar):
    if rng.randrange(4) == 0:
        return mutate_bytes(rng, tar)
    tar = bytearray(tar)
    heads = [at for at in range(0, len(tar), 512) if tar[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(heads)
    block = bytearray(tar[at : at + 512])

    def put(place, width, value):
        block[place : place + width] = value[:width].ljust(width, b"\0")

    what = rng.randrange(8)
    if what == 0:
        put(0, 100, rng.choice([b"../../etc/passwd", b"/etc/passwd", b"./a/../../b", b"", b"./", b"./a\nb", b"./\xff\xfe", b"./a//b", b"././x", b"x" * 100, b"..", b"./con\x01trol"]))
    elif what == 1:
        put(124, 12, rng.choice([b"77777777777\0", b"00000000001\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"0x10", b"            ", b"9" * 11]))
    elif what == 2:
        put(156, 1, rng.choice([b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"M", b"V", b"\xff", b"\0"]))
    elif what == 3:
        put(157, 100, rng.choice([b"/etc/shadow", b"../../..", b"", b"./usr/share/mutant/text"]))
        put(156, 1, rng.choice([b"1", b"2"]))
    elif what == 4:
        put(100, 8, rng.choice([b"0004755\0", b"7777777\0", b"xxxxxxx\0", b"", b"\x80\0\0\0\0\0\0\1"]))
    elif what == 5:
        put(136, 12, rng.choice([b"-1", b"77777777777\0", b"\x80" + b"\x7f" * 11, b"now"]))
    elif what == 6:
        put(257, 8, rng.choice([b"ustar\x0000", b"ustar  \0", b"USTAR\0", b"\0" * 8]))
        put(345, 155, rng.choice([b"../..", b"/etc", b"", b"p" * 155]))
    else:
        put(rng.choice([108, 116]), 8, rng.choice([b"7777777\0", b"-1", b"\x80\0\0\0\xff\xff\xff\xff", b"root"]))
    if rng.randrange(8):
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    tar[at : at + 512] = block
    return bytes(tar)


def mutate_control(rng, text, name):
    def replace(field, value):
        lines = text.split(b"\n")
        return b"\n".join(field + b": " + value if line.startswith(field + b":") else line for line in lines)

    def without(field):
        return b"\n".join(line for line in text.split(b"\n") if not line.startswith(field + b":"))

    bad_versions = [b"", b"1:", b":1", b"1.0-", b"a1", b"1_0", b"1 0", b"1/0", b"-1", b"99999999999:1", b"1:2:3", b"1.0\xc3\xa9", b"1" * 300, b"0", b"1~", b"1:1", b"1.0-1-1", b"0:1.0-1"]
    bad_names = [b"", b"A", b"Mutant", b"../x", b"a b", b"-a", b"a_b", b"a" * 300, b"a;id", b"1", b"\xc3\xa9\xc3\xa9", b"ab." + name.encode() + b"+-"]
    archs = [b"", b"any", b"source", b"../x", b"amd64 i386", b"AMD64", b"linux-any", b"arm64", b"i386", b"x" * 50]
    relations = [b"a (", b"a | ", b", ,", b"a (= 1) b", b"a [amd64]", b"a <!x>", b"${misc:Depends}", b"a (>> )", b"libc6", b"a:any", b"a (>=1)", b",", b"a,", b"a (= 1:)", b"a (< 1)", b"a | b (>= 2)", b"A"]
    fields = [b"Filename: ../../etc/passwd", b"Size: 1", b"SHA256: " + b"0" * 64, b"MD5sum: x", b"Status: install ok installed", b"Package: other", b"package: other",
              b"Description: again", b"# a comment", b"-Field: x", b"No colon", b"Field : x", b":x", b"Fi\xc3\xa9ld: x", b"X-Tab:\tx\ty ", b"X-Empty:", b"X-Long: " + b"y" * 100_000,
              b"X-Blank:\n .\n  kept  \n\ttab", b"Conffiles:\n /etc/x 0123", b"Description-md5: 0", b"X-Nul: a\0b", b"X-Cr: a\rb", b"X-Vt: a\x0bb\x0cc\x1cd", b"X-Nel: a\xc2\x85b\xe2\x80\xa8c",
              b"X-Bom: \xef\xbb\xbf", b"X-Latin: \xe9", b"Installed-Size: -1", b"Installed-Size: 1e9", b"Installed-Size: 99999999999999999999", b"Installed-Size: 12",
              b"Multi-Arch: yes", b"Multi-Arch: foreign", b"Multi-Arch: same", b"Essential: maybe", b"Essential: yes", b"Source: other (1.0", b"Source: other (1.0)", b"Source: ../x", b"Tag: a,\n b,\n c",
              b"Homepage: <script>", b"Section: ../x", b"Priority: nonsense", b"Task: x", b"Phased-Update-Percentage: 0", b"Directory: x", b"X-\xf0\x9f\x8d\xba: x", b"X-Bidi: \xe2\x80\xae"]
    what = rng.randrange(11)
    if what <= 3:
        extra = rng.choice(fields)
        return text + extra + b"\n" if rng.randrange(2) else extra + b"\n" + text
    if what == 4:
        return replace(b"Version", rng.choice(bad_versions))
    if what == 5:
        return replace(b"Package", rng.choice(bad_names))
    if what == 6:
        return replace(b"Architecture", rng.choice(archs))
    if what == 7:
        field = rng.choice([b"Depends", b"Pre-Depends", b"Provides", b"Conflicts", b"Recommends"])
        return text + field + b": " + rng.choice(relations) + b"\n"
    if what == 8:
        return without(rng.choice([b"Package", b"Version", b"Architecture", b"Maintainer", b"Description"]))
    if what == 9:
        return rng.choice([b"", b"\n", text.replace(b"\n", b"\r\n"), text[:-1], b"\n" + text, text + b"\n\n", text + b"\n" + text, b" " + text, b"\xef\xbb\xbf" + text,
                           text.replace(b"\nVersion", b"\n\nVersion"), text.replace(b"\nVersion", b"\n \nVersion"), text.replace(b": ", b":"), text.replace(b": ", b":\t \t"), text.upper()])
    return text.replace(b"Description: a mutant\n", rng.choice([b"Description:\n only below\n", b"Description: \n", b"Description: a\n\tb\n", b"Description: a\n.\n", b"Description: a\n b \n  \n c\n", "Description: naïve ☃ 𝄞\n".encode()]))


def make(index, seed, data, tars):
    rng = random.Random(f"{seed}-{index}")
    kind = rng.choice(KINDS)
    name = f"mutant-{index:04}"
    arch = rng.choice(["all", "amd64"])
    text = (
        f"Package: {name}\nVersion: {rng.choice(['1.0-1', '2:1.0~rc1-1', '20260101'])}\nArchitecture: {arch}\nMaintainer: T <t@example.invalid>\n"
        f"Installed-Size: 12\nSection: misc\nPriority: optional\nDepends: libc6 (>= 2.36), a | b:any\nDescription: a mutant\n of several lines\n .\n and a gap\n"
    ).encode()
    if kind == "control":
        text = mutate_control(rng, text, name)
    elif kind == "text":
        text = mutate_bytes(rng, text)
    files = [("./control", text), ("./md5sums", b""), ("./postinst", b"#!/bin/sh\nexit 0\n")]
    how_control, how_data, which = rng.choice(list(PACK)), rng.choice(list(PACK)), rng.randrange(3)
    control_tar, data_member = tar_of(files), data[how_data][which]
    if kind == "tar":
        if rng.randrange(2):
            control_tar = mutate_tar(rng, control_tar)
        else:
            data_member = PACK[how_data](mutate_tar(rng, tars[which]))
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar" + ENDINGS[how_control], PACK[how_control](control_tar)),
        ("data.tar" + ENDINGS[how_data], data_member),
    ]
    deb = mutate_ar(rng, members) if kind == "ar" else ar(members)
    return kind, mutate_bytes(rng, deb) if kind == "bytes" else deb


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    data, tars = data_members()
    os.makedirs(folder, exist_ok=True)
    for index in range(count):
        kind, deb = make(index, seed, data, tars)
        with open(os.path.join(folder, f"{index:04}-{kind}.deb"), "wb") as file:
            file.write(deb)


if __name__ == "__main__":
    main()
