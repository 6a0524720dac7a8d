#!/usr/bin/env python3
"""Rpms that are wrong in many ways, and some that are not: the same ones for the same seed.

    mutate_rpms.py FOLDER COUNT SEED

Writes FOLDER/NNNN-kind.rpm. Each starts from a good package of rpmbuild with a name of its own, so that
none is refused for another's sake; one in seven is a source package, and the payload is packed by gzip,
xz, zstd, bzip2, lzma or not at all. Then, by kind:

    untouched   nothing
    bytes       flips, cuts, insertions, deletions, copies anywhere in the file
    lead        any of its 96 bytes
    signature   the signature header: its sizes, its index, its values
    index       the index of the header: tags, types, offsets, counts, and how many there are
    store       the bytes of the header's values
    values      values that break a rule: versions, paths, owners, sizes, digests, lists that do not fit, tags missing
    payload     the cpio archive, packed again; or the packed bytes
    cut         cut off at or near the seams, or bytes behind the end
    blocks      headers and payload twice, swapped, missing, or another package's

For all from index to payload the digests are made right again, or are left out, or stay as they were.
"""
import bz2
import gzip
import hashlib
import lzma
import os
import random
import struct
import sys
import tempfile

import make_rpms
from mutate_debs import mutate_bytes, raw_zstd

PLACEHOLDER = b"mutant-0000"
MAGIC = bytes.fromhex("8eade80100000000")
KINDS = ["bytes"] * 8 + ["lead"] + ["signature"] * 5 + ["index"] * 6 + ["store"] * 6 + ["values"] * 8 + ["payload"] * 8 + ["cut"] * 3 + ["blocks"] * 3 + ["untouched"] * 2
INT16, INT32, INT64, STRING, BIN, STRINGS, I18N = 3, 4, 5, 6, 7, 8, 9
NUMBERS = [0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
PAYLOADDIGEST, PAYLOADDIGESTALGO, PAYLOADDIGESTALT = 5092, 5093, 5097

SPEC = """Epoch: 3
Requires: other >= 1:2-3
Requires: (one if two)
Recommends: wanted
Provides: thing = 2
"""
INSTALL = """
mkdir -p %{buildroot}/usr/share/mutant/deep %{buildroot}/etc/mutant
seq 400 > %{buildroot}/usr/share/mutant/text
head -c 5000 /bin/true > %{buildroot}/usr/share/mutant/noise
touch %{buildroot}/usr/share/mutant/deep/empty %{buildroot}/etc/mutant/conf
ln -s ../text %{buildroot}/usr/share/mutant/deep/link
ln %{buildroot}/usr/share/mutant/noise %{buildroot}/usr/share/mutant/again
"""
FILES = "/usr/share/mutant\n%config(noreplace) /etc/mutant/conf\n%ghost /etc/mutant/ghost\n"
REST = "%post\necho hi\n%changelog\n* Mon Nov 27 2023 P <p@example.invalid> - 1.0-1\n- change\n"


def parse(data, at):
    """Entries as (tag, type, count, bytes) of the header at `at`, and where it ends."""
    count, size = struct.unpack(">II", data[at + 8 : at + 16])
    store = data[at + 16 + 16 * count : at + 16 + 16 * count + size]
    raw = [struct.unpack(">IIII", data[at + 16 + 16 * n : at + 32 + 16 * n]) for n in range(count)]
    entries = []
    for tag, kind, offset, number in raw:
        if kind in (STRING, STRINGS, I18N):
            end = offset
            for _ in range(number):
                end = store.index(b"\0", end) + 1
        else:
            end = offset + number * {INT16: 2, INT32: 4, INT64: 8}.get(kind, 1)
        if tag not in (62, 63):
            entries.append((tag, kind, number, store[offset:end]))
    return entries, at + 16 + 16 * count + size


def pack(entries, region):
    """A header with all entries in its region."""
    index, store = b"", b""
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        store += b"\0" * (-len(store) % {INT16: 2, INT32: 4, INT64: 8}.get(kind, 1))
        index += struct.pack(">IIII", tag, kind, len(store), count)
        store += value
    trailer = struct.pack(">IIiI", region, BIN, -16 * (len(entries) + 1), 16)
    index = struct.pack(">IIII", region, BIN, len(store), 16) + index
    return MAGIC + struct.pack(">II", len(entries) + 1, len(store) + 16) + index + store + trailer


def signature(header, payload, how):
    size = len(header) + len(payload)
    entries = [(1000, INT32, 1, struct.pack(">I", size))]
    if how != "left out":
        entries.append((269, STRING, 1, hashlib.sha1(header).hexdigest().encode() + b"\0"))
        entries.append((273, STRING, 1, hashlib.sha256(header).hexdigest().encode() + b"\0"))
        entries.append((1004, BIN, 16, hashlib.md5(header + payload).digest()))
    packed = pack(entries, 62)
    return packed + b"\0" * (-len(packed) % 8)


class Base:
    def __init__(self, data):
        self.lead = data[:96]
        _, end = parse(data, 96)
        self.prefix = data[96 : end + -end % 8]
        start = end + -end % 8
        self.entries, end = parse(data, start)
        self.payload = data[end:]
        self.how = next((value[:-1].decode() for tag, _, _, value in self.entries if tag == 1125), "none")

    def unpacked(self):
        if self.how == "zstd":
            return None
        return {"gzip": gzip.decompress, "xz": lzma.decompress, "lzma": lzma.decompress, "bzip2": bz2.decompress, "none": bytes}[self.how](self.payload)

    def packed(self, cpio):
        packers = {
            "gzip": lambda data: gzip.compress(data, 6, mtime=0),
            "xz": lambda data: lzma.compress(data, preset=1),
            "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, preset=1),
            "bzip2": bz2.compress,
            "zstd": raw_zstd,
            "none": bytes,
        }
        return packers[self.how](cpio)


def bases():
    """Good packages, one for each way to pack and one source package."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(["w6.gzdio", "w1.xzdio", "w3.zstdio", "w6.bzdio", "w1.lzdio", "w.ufdio"]):
            out = os.path.join(folder, str(number))
            os.makedirs(out)
            text = make_rpms.spec(PLACEHOLDER.decode(), SPEC + ("BuildArch: noarch\n" if number % 2 else ""), FILES, INSTALL, REST)
            make_rpms.build_now(text, out, [f"_binary_payload {kind}", f"_source_payload {kind}"])
            for name in sorted(os.listdir(out)):
                if number == 0 or not name.endswith(".src.rpm"):
                    made.append(Base(open(os.path.join(out, name), "rb").read()))
    archive = next(base.unpacked() for base in made if base.how == "none")
    return made, archive


def change(entries, tag, new):
    return [(t, *new(kind, count, value)) if t == tag else (t, kind, count, value) for t, kind, count, value in entries]


def with_digests(entries, packed, cpio):
    for tag, data in ((PAYLOADDIGEST, packed), (PAYLOADDIGESTALT, cpio)):
        entries = change(entries, tag, lambda kind, count, _: (kind, count, hashlib.sha256(data).hexdigest().encode() + b"\0"))
    return entries


def mutate_index(rng, header):
    header = bytearray(header)
    if rng.randrange(6) == 0:
        at = rng.choice([8, 12])
        (old,) = struct.unpack(">I", header[at : at + 4])
        number = rng.choice(NUMBERS + [old + 1, old - 1, old * 2])
        header[at : at + 4] = struct.pack(">I", number & 0xFFFFFFFF)
        return bytes(header)
    (count,) = struct.unpack(">I", header[8:12])
    for _ in range(rng.choice([1, 1, 2])):
        at = 16 + 16 * rng.randrange(count) + 4 * rng.randrange(4)
        (old,) = struct.unpack(">I", header[at : at + 4])
        number = rng.choice(NUMBERS + [old + 1, old - 1, old + 4, old ^ 1 << rng.randrange(16), old ^ 1 << rng.randrange(8)])
        header[at : at + 4] = struct.pack(">I", number & 0xFFFFFFFF)
    return bytes(header)


def mutate_store(rng, header):
    header = bytearray(header)
    (count,) = struct.unpack(">I", header[8:12])
    start = 16 + 16 * count
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = start + rng.randrange(len(header) - start - 16)
        header[at] = rng.choice([0, 1, 0x0A, ord("<"), ord('"'), ord("/"), ord("-"), 0x7F, 0x80, 0xC3, 0xFF, header[at] ^ 1 << rng.randrange(8)])
    return bytes(header)


def mutate_values(rng, entries):
    text = lambda value: lambda kind, count, old: (kind, 1 if kind == STRING else count, value + b"\0")
    number = lambda value: lambda kind, count, old: (kind, count, value.to_bytes(len(old) // count, "big") * count if value < 1 << 8 * len(old) // count else old)
    names = [b"", b"../x", b"a b", b"-rf", b"a/b", b"x" * 5000, b"\xff\xfe", "é☃".encode(), b"a\nb", b"<a&b>", b"mutant;id", b"%{nil}"]
    versions = [b"", b"1:2", b"1-2", b"1~rc1", b"1^git", b"1" * 400, b"../..", b"a b", b"1.\xe9", b"1<2", b"0"]
    first = lambda new: lambda kind, count, old: (kind, count, new + b"\0" + old.split(b"\0", 1)[1])
    what = rng.randrange(12)
    if what == 0:
        return change(entries, 1000, text(rng.choice(names)))
    if what == 1:
        return change(entries, rng.choice([1001, 1002]), text(rng.choice(versions)))
    if what == 2:
        return change(entries, 1022, text(rng.choice([b"", b"noarch", b"x86_64", b"i686", b"aarch64", b"src", b"nosrc", b"../x", b"NOARCH", b"a b", b"riscv64"])))
    if what == 3:
        return change(entries, 1003, number(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])))
    if what == 4:
        return change(entries, rng.choice([1117, 1118]), first(rng.choice([b"..", b".", b"", b"/", b"../../etc", b"a/b", b"/etc/", b"\xff", b"a\nb", b"x" * 5000, b"usr/", b"//"])))
    if what == 5:
        return change(entries, rng.choice([1028, 1030, 1033, 1034, 1037, 1045, 1095, 1096, 1116]), number(rng.choice([0, 1, 64, 0o40755, 0o120777, 0xFFFF, 0xFFFFFFFF])))
    if what == 6:
        return change(entries, rng.choice([1035, 1036, 1039, 1040, 1097]), first(rng.choice([b"", b"0" * 64, b"zz", b"root", b"../../..", b"\xff", b"x" * 3000])))
    if what == 7:
        gone = rng.choice([entry[0] for entry in entries])
        return [entry for entry in entries if entry[0] != gone]
    if what == 8:
        tag, kind, count, value = rng.choice(entries)
        return entries + [(tag, kind, count, value)]
    if what == 9:
        tag = rng.choice([1047, 1049, 1080, 1081, 1082, 1112, 1113, 1117, 1030])
        return change(entries, tag, lambda kind, count, old: (kind, count + 1, old + (b"x\0" if kind == STRINGS else b"\0" * (len(old) // count))))
    if what == 10:
        tag = rng.choice([1004, 1005, 1014, 1016, 1020, 1011, 1007, 1024, 1082, 1049, 1113])
        return change(entries, tag, first(rng.choice([b"", b"\x01\x02\x1b[1m", b"\xff\xfe", b"]]>", b"<x y='&amp;'>", b"\xf0\x9d\x84\x9e", b"\xed\xa0\x80", b"x" * 100_000])))
    tag = rng.choice([PAYLOADDIGEST, PAYLOADDIGESTALGO, 5011, 1125, 1124, 1126])
    value = rng.choice([0, 1, 2, 8, 10, 99])
    return change(entries, tag, lambda kind, count, old: number(value)(kind, count, old) if kind == INT32 else text(rng.choice([b"", b"00", b"xz", b"gzip", b"bzip2", b"lzma", b"zstd", b"rar", b"cpio"]))(kind, count, old))


def mutate_cpio(rng, cpio):
    cpio = bytearray(cpio)
    if rng.randrange(4) == 0:
        return mutate_bytes(rng, bytes(cpio))
    heads = [at for at in range(0, len(cpio) - 110, 4) if cpio[at : at + 6] in (b"070701", b"070702")]
    at = rng.choice(heads)
    what = rng.randrange(5)
    if what == 0:
        cpio[at : at + 6] = rng.choice([b"070702", b"07070X", b"070707", b"000000", b"070703"])
    elif what == 1:
        field = at + 6 + 8 * rng.choice([1, 1, 6, 6, 6, 11, 11, 0, 2, 5, 12])
        (old,) = [int(cpio[field : field + 8], 16)]
        number = rng.choice(NUMBERS + [old + 1, old - 1, old + 4, 0o120777, 0o60644, 0o40755])
        cpio[field : field + 8] = rng.choice([b"%08x" % (number & 0xFFFFFFFF)] * 5 + [b"-0000001", b"  000001", b"0x000001"])
    elif what == 2:
        name = rng.choice([b"../../etc/passwd", b"/etc/passwd", b"./usr/share/mutant/text", b"", b"TRAILER!!!", b"./\xff", b"x" * 60])
        cpio[at + 110 : at + 110 + len(name) + 1] = name + b"\0"
    elif what == 3:
        other = rng.choice(heads)
        del cpio[min(at, other) : max(at, other)]
    else:
        other, end = rng.choice(heads), rng.choice(heads)
        cpio[at:at] = cpio[min(other, end) : max(other, end)]
    return bytes(cpio)


def mutate_signature(rng, prefix):
    what = rng.randrange(4)
    if what == 0:
        return mutate_index(rng, prefix)
    if what == 1:
        return mutate_store(rng, prefix)
    if what == 2:
        return mutate_bytes(rng, prefix)
    entries, _ = parse(prefix, 0)
    extra = rng.choice([(268, BIN, 9, b"\x89\x02\x00notone"), (267, BIN, 1, b"\0"), (1005, BIN, 4, b"\xff" * 4), (270, INT64, 1, b"\xff" * 8), (1007, INT32, 1, b"\xff" * 4), (4242, STRING, 1, b"x\0"), entries[0]])
    packed = pack(entries + [extra], 62)
    return packed + b"\0" * (-len(packed) % 8)


def mutate_cut(rng, parts):
    data = b"".join(parts)
    seams = [sum(len(part) for part in parts[:n]) for n in range(len(parts) + 1)]
    at = max(0, min(len(data), rng.choice(seams) + rng.choice([-16, -8, -1, 0, 1, 8, 16])))
    if rng.randrange(3):
        return data[:at]
    return data + rng.choice([b"\0", b"\0" * 4096, b"x", rng.randbytes(300), data, data[:at], parts[-1]])


def mutate_blocks(rng, parts, others):
    parts = list(parts)
    what, at = rng.randrange(4), rng.randrange(len(parts))
    if what == 0:
        parts.insert(at, parts[at])
    elif what == 1:
        other = (at + 1 + rng.randrange(len(parts) - 1)) % len(parts)
        parts[at], parts[other] = parts[other], parts[at]
    elif what == 2:
        del parts[at]
    else:
        parts[at] = others[at]
    return b"".join(parts)


def make(index, seed, made, archive):
    rng = random.Random(f"{seed}-{index}")
    kind = rng.choice(KINDS)
    own = lambda data: data.replace(PLACEHOLDER, b"mutant-%04d" % index)
    base = rng.choice(made)
    entries = [(tag, k, count, own(value)) for tag, k, count, value in base.entries]
    payload = base.payload
    how = rng.choice(["right", "right", "left out", "as they were"])
    header = good = pack(entries, 63)
    if kind == "index":
        header = mutate_index(rng, header)
    elif kind == "store":
        header = mutate_store(rng, header)
    elif kind == "values":
        header = pack(mutate_values(rng, entries), 63)
    elif kind == "payload":
        if any(tag == 1106 for tag, *_ in entries) or rng.randrange(4) == 0:
            payload = mutate_bytes(rng, payload)
            cpio = b""
        else:
            cpio = mutate_cpio(rng, base.unpacked() or archive)
            payload = base.packed(cpio)
        if how == "right":
            entries = with_digests(entries, payload, cpio)
        elif how == "left out":
            entries = [entry for entry in entries if entry[0] not in (PAYLOADDIGEST, PAYLOADDIGESTALGO, PAYLOADDIGESTALT)]
        header = pack(entries, 63)
    if kind in ("index", "store", "values", "payload") and how != "as they were":
        prefix = signature(header, payload, how)
    else:
        prefix = signature(good, base.payload, "right")
    parts = [base.lead, prefix, header, payload]
    if kind == "lead":
        parts[0] = mutate_bytes(rng, base.lead)[:96].ljust(96, b"\0")
    elif kind == "signature":
        parts[1] = mutate_signature(rng, prefix)
    if kind == "bytes":
        return kind, mutate_bytes(rng, b"".join(parts))
    if kind == "cut":
        return kind, mutate_cut(rng, parts)
    if kind == "blocks":
        other = rng.choice(made)
        return kind, mutate_blocks(rng, parts, [other.lead, other.prefix, pack(other.entries, 63), other.payload])
    return kind, b"".join(parts)


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    made, archive = bases()
    os.makedirs(folder, exist_ok=True)
    for index in range(count):
        kind, rpm = make(index, seed, made, archive)
        with open(os.path.join(folder, f"{index:04}-{kind}.rpm"), "wb") as file:
            file.write(rpm)


if __name__ == "__main__":
    main()
