#!/usr/bin/env python3
"""What an image has of X11, xcb and Wayland, and how large it is: a second opinion, with nothing but Python's own modules.

    display_files.py IMAGE [--base-layers N] [--packages]

IMAGE is the folder of an OCI layout, FOLDER:NAME for one of several, or an archive (`docker save`, or an OCI archive). Every member of every layer is
looked at, whatever a layer above hides or deletes; a layer is a tar, packed with gzip, zstd (by the program) or not at all.

    file LAYER PATH               a library, header, protocol or setting of X11, xcb or Wayland, by its name
    needs LAYER PATH: LIBRARY     a program or library that is linked to one, by its dynamic section
    package NAME VERSION          dpkg's record of such a package
    with N: MB, FILES files       a layer, unpacked, from layer 1 on; and what is above the base, its packages too

Exits 1 if there is a file, need or package.
"""
import argparse
import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile

LIBRARY = re.compile(
    r"lib(X11|X11-xcb|Xau|Xaw[0-9]*|Xcomposite|Xcursor|Xdamage|Xdmcp|Xext|Xfixes|Xft|Xi|Xinerama|Xmu|Xmuu|Xpm|Xrandr|Xrender"
    r"|Xss|Xt|Xtst|Xv|XvMC|Xxf86vm|xcb(-[a-z0-9-]+)?|xkbcommon(-x11)?|xkbfile|xshmfence|ICE|SM|GL|GLX|GLX_[a-z]+|EGL|EGL_[a-z]+"
    r"|wayland-[a-z]+|pangoxft-[0-9.]+|cairo-xlib|va-x11|va-wayland|vdpau|decor-[0-9]+)(-[0-9.]+)?\.(so|a|la)(\..*)?"
)
FOLDERS = re.compile(
    r"(etc|usr/include|usr/share|usr/lib|var/lib)/X11(/.*)?"
    r"|usr/include/(xcb|wayland[^/]*)(/.*)?"
    r"|usr/share/(xcb|wayland|wayland-protocols|wayland-sessions|xsessions)(/.*)?"
    r"|usr/share/doc/(libx11-|libxcb|libxkb|libwayland-|x11-)[^/]*(/.*)?"
    r"|(.*/)?pkgconfig/(x11|xcb|wayland|cairo-xlib|cairo-xcb|gdk-x11|gdk-wayland|gtk\+-x11|gtk\+-wayland|xft|xkb)[^/]*\.pc"
    r"|(usr/)?bin/(Xorg|Xvfb|Xwayland|X|xauth|xinit|xrandr|xset|startx|weston)"
)
PACKAGE = re.compile(r"libx11-.*|libxcb.*|libwayland-.*|libxkb.*|libx(au|aw|composite|cursor|damage|dmcp|ext|fixes|ft|i|inerama|mu|randr|render|ss|t|tst|v|xf86vm)[0-9].*|x11-.*|xorg.*|xserver-.*|xwayland|libegl.*|libgl1.*|libglx.*|libsm6|libice6")


def members(archive):
    """{name: bytes} of an archive's regular files, links followed."""
    found, links = {}, {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = os.path.normpath(member.name)
            if member.isreg():
                found[name] = tar.extractfile(member).read()
            elif member.issym() or member.islnk():
                links[name] = os.path.normpath(os.path.join(os.path.dirname(name) if member.issym() else "", member.linkname))
    for name, target in links.items():
        if target in found:
            found[name] = found[target]
    return found


def image_layers(place):
    """The layers of an image, unpacked, lowest first."""
    folder, _, wanted = place.rpartition(":")
    if os.path.isdir(folder):
        place = folder
    else:
        wanted = ""
    if os.path.isdir(place):
        read = lambda name: open(os.path.join(place, name), "rb").read()
    else:
        files = members(place)
        if "index.json" not in files or "manifest.json" in files:
            manifest = json.loads(files["manifest.json"])[0]
            return [unpacked(files[os.path.normpath(name)]) for name in manifest["Layers"]]
        read = lambda name: files[os.path.normpath(name)]
    blob = lambda descriptor: read("blobs/" + descriptor["digest"].replace(":", "/"))
    manifest = json.loads(read("index.json"))
    # (An index may lead to another one.)
    while "manifests" in manifest:
        named = lambda of: of.get("annotations", {}).get("org.opencontainers.image.ref.name", "")
        found = [of for of in manifest["manifests"] if wanted in ("", named(of), named(of).removesuffix(":latest"))]
        if len(found) != 1:
            sys.exit(f"{place} has {len(found)} such images: {[named(of) for of in manifest['manifests']]}")
        manifest, wanted = json.loads(blob(found[0])), ""
    return [unpacked(blob(layer)) for layer in manifest["layers"]]


def unpacked(layer):
    if layer[:2] == b"\x1f\x8b":
        return gzip.decompress(layer)
    if layer[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dc"], input=layer, stdout=subprocess.PIPE, check=True).stdout
    return layer


def needed(elf):
    """The names in DT_NEEDED of a 32 or 64 bit ELF file; none where it is no such file, or a damaged one."""
    if elf[:4] != b"\x7fELF" or len(elf) < 64:
        return []
    wide, order = elf[4] == 2, "<" if elf[5] == 1 else ">"
    try:
        if wide:
            offset, size, count = struct.unpack_from(order + "Q", elf, 32) + struct.unpack_from(order + "HH", elf, 54)
        else:
            offset, size, count = struct.unpack_from(order + "I", elf, 28) + struct.unpack_from(order + "HH", elf, 42)
        segments = []
        for at in range(offset, offset + size * count, size):
            if wide:
                kind, _, start, address, _, length = struct.unpack_from(order + "IIQQQQ", elf, at)
            else:
                kind, start, address, _, length = struct.unpack_from(order + "IIIII", elf, at)
            segments.append((kind, start, address, length))
        names, strings = [], None
        for kind, start, _, length in segments:
            if kind != 2:
                continue
            for tag, value in struct.iter_unpack(order + ("qQ" if wide else "iI"), elf[start : start + length]):
                if tag == 0:
                    break
                if tag == 1:
                    names.append(value)
                elif tag == 5:
                    strings = value
        for kind, start, address, length in segments:
            if kind == 1 and strings is not None and address <= strings < address + length:
                table = strings - address + start
                return [elf[table + name : elf.index(b"\0", table + name)].decode("latin-1") for name in names]
    except (struct.error, ValueError):
        pass
    return []


def installed(status):
    """{package: version} of what a dpkg database has installed."""
    found = {}
    for paragraph in status.decode("utf-8", "replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("--base-layers", type=int, default=1, help="how many of the layers are the base's")
    parser.add_argument("--packages", action="store_true", help="list the packages above the base")
    arguments = parser.parse_args()
    findings, base, packages, sizes, elves = [], {}, {}, [], 0
    for number, layer in enumerate(image_layers(arguments.image), 1):
        files = size = 0
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for member in tar:
                path = re.sub(r"^(\./)+", "", member.name).strip("/")
                name = path.rsplit("/", 1)[-1]
                if LIBRARY.fullmatch(name) or FOLDERS.fullmatch(path):
                    findings.append(f"file {number} {path}")
                if not member.isreg():
                    continue
                files, size = files + 1, size + member.size
                content = tar.extractfile(member).read()
                elves += content[:4] == b"\x7fELF"
                findings += [f"needs {number} {path}: {library}" for library in needed(content) if LIBRARY.fullmatch(library)]
                if path == "var/lib/dpkg/status":
                    packages = installed(content)
                    if number <= arguments.base_layers:
                        base = packages
        sizes.append((size, files, len(layer)))
        print(f"layer {number}: {size / 1e6:.1f} MB in {files} files, {len(layer) / 1e6:.1f} MB as a tar")
    findings += [f"package {name} {version}" for name, version in sorted(packages.items()) if PACKAGE.fullmatch(name)]
    above = {name: version for name, version in packages.items() if base.get(name) != version}
    if arguments.packages:
        for name, version in sorted(above.items()):
            print(f"  {name} {version}")
    size, files = (sum(of[at] for of in sizes[arguments.base_layers :]) for at in (0, 1))
    print(f"above the base: {size / 1e6:.1f} MB in {files} files, {len(above)} packages; {len(packages)} packages in all")
    for finding in findings:
        print(finding)
    print(f"{elves} programs and libraries looked at: {len(findings)} finding(s) of X11, xcb or Wayland")
    sys.exit(1 if findings else 0)


main()
