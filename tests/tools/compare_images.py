#!/usr/bin/env python3
"""Says what differs between image archives: compare_images.py SINCE DOCKERS WAY=OURS...

One line a difference, after its WAY: of the files, as they are once all layers are unpacked, and of the configuration;
with `layers` also of each layer and of the history, with `compile` whether more than one is above the base. Times count where those of the first archive are from before SINCE: later ones
were made up by the build. Shares no code with twostage.
"""
import gzip
import hashlib
import io
import json
import sys
import tarfile

KINDS = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.CHRTYPE: "char",
         tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo", tarfile.LNKTYPE: "link", tarfile.GNUTYPE_SPARSE: "file"}
XATTR = "SCHILY.xattr."


class Image:
    def __init__(self, path):
        with tarfile.open(path) as archive:
            read = lambda name: archive.extractfile(name).read()
            manifest, = json.loads(read("manifest.json"))
            self.config = json.loads(read(manifest["Config"]))
            layers = [read(name) for name in manifest["Layers"]]
            self.lowest = hashlib.sha256(layers[0]).digest()
            self.layers = [members(layer) for layer in layers]

    def tree(self):
        tree = {}
        for number, layer in enumerate(self.layers):
            # What a layer deletes is of the layers below it.
            for name, _ in layer:
                folder, _, last = name.rpartition("/")
                if last == ".wh..wh..opq":
                    remove(tree, folder, False)
                elif last.startswith(".wh."):
                    remove(tree, f"{folder}/{last[4:]}".strip("/"), True)
            for name, what in layer:
                if name.rpartition("/")[2].startswith(".wh."):
                    continue
                if what["kind"] == "link":
                    tree[name] = tree[what["target"]]
                    continue
                if what["kind"] != "dir":
                    remove(tree, name, True)
                elif name in tree and tree[name]["kind"] != "dir":
                    remove(tree, name, True)
                tree[name] = dict(what)
        names = {}
        for name in sorted(tree):
            names.setdefault(id(tree[name]), []).append(name)
        return {name: (*described(what), [other for other in names[id(what)] if other != name]) for name, what in tree.items()}


def remove(tree, name, itself):
    for other in [other for other in tree if other.startswith(f"{name}/".lstrip("/")) or (itself and other == name)]:
        del tree[other]


def members(data):
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as layer:
        for member in layer:
            what = {"kind": KINDS[member.type], "mode": oct(member.mode), "owner": f"{member.uid}:{member.gid}", "mtime": int(member.mtime // 1)}
            if what["kind"] == "file":
                content = layer.extractfile(member).read()
                what["content"] = f"{len(content)} {hashlib.sha256(content).hexdigest()[:12]}"
                if len(content) < 400:
                    what["text"] = repr(content)
            elif what["kind"] in ("symlink", "link"):
                what["target"] = member.linkname
            elif what["kind"] in ("char", "block"):
                what["device"] = f"{member.devmajor},{member.devminor}"
            for key, value in sorted(member.pax_headers.items()):
                if key.startswith(XATTR):
                    what[key[len(XATTR):]] = repr(value)
            if what["kind"] == "link":
                what["target"] = clean(what["target"])
            found.append((clean(member.name), what))
    return found


def clean(name):
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def described(what):
    return {key: value for key, value in what.items() if key != "mtime"}, what["mtime"]


def shown(what):
    kind = what[0]
    return " ".join(f"{value}" if key in ("kind", "mode", "owner") else f"{key}={value}" for key, value in kind.items())


def trees(since, docker, ours):
    for name in sorted(docker.keys() | ours.keys()):
        path = "/" + name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if name not in ours:
            yield f"{path}: only docker has it: {shown(docker[name])}"
        elif name not in docker:
            yield f"{path}: only ours has it: {shown(ours[name])}"
        else:
            (theirs, time, others), (mine, my_time, my_others) = docker[name], ours[name]
            changed = [key for key in sorted(theirs.keys() | mine.keys()) if theirs.get(key) != mine.get(key) and not (key == "content" and "text" in theirs and "text" in mine)]
            for key in changed:
                yield f"{path}: {key}: docker {theirs.get(key)}, ours {mine.get(key)}"
            if time < since and time != my_time:
                yield f"{path}: time: docker {time}, ours {my_time if my_time < since else 'now'}"
            if others != my_others:
                yield f"{path}: also called: docker {others}, ours {my_others}"


def configurations(docker, ours):
    said = lambda value: value not in (None, "", [], {})
    for part, without in [("config", {"ArgsEscaped"}), (None, {"config", "rootfs", "history", "created", "moby.buildkit.buildinfo.v1", "container", "container_config", "docker_version"})]:
        theirs, mine = [(image.config.get(part) or {}) if part else image.config for image in (docker, ours)]
        for key in sorted((theirs.keys() | mine.keys()) - without):
            if (said(theirs.get(key)) or said(mine.get(key))) and theirs.get(key) != mine.get(key):
                yield f"{key}: docker {json.dumps(theirs.get(key))}, ours {json.dumps(mine.get(key))}"


def histories(docker, ours):
    lines = [[(step.get("created_by", ""), step.get("comment", ""), step.get("empty_layer", False)) for step in image.config["history"]]
             for image in (docker, ours)]
    if len(lines[0]) != len(lines[1]):
        yield f"history: docker has {len(lines[0])} steps, ours {len(lines[1])}"
    for number, (theirs, mine) in enumerate(zip(*lines)):
        if theirs != mine:
            yield f"history {number}: docker {theirs}, ours {mine}"


def layers(docker, ours):
    if len(docker.layers) != len(ours.layers):
        yield f"layers: docker has {len(docker.layers)}, ours {len(ours.layers)}"
        return
    for number, pair in enumerate(zip(docker.layers, ours.layers)):
        # (Times were compared, and the links of one layer may start from any of their names.)
        found = [{name: ({} if name.rpartition("/")[2].startswith(".wh.") else {key: value for key, value in what.items() if key != "mtime"}, 0, [])
                  for name, what in layer if what["kind"] != "link"} for layer in pair]
        for line in trees(0, *found):
            yield f"layer {number}: {line}"


def main():
    since, docker = int(sys.argv[1]), Image(sys.argv[2])
    tree = docker.tree()
    for argument in sys.argv[3:]:
        way, _, path = argument.partition("=")
        ours = Image(path)
        found = [*trees(since, tree, ours.tree()), *configurations(docker, ours)]
        if way == "layers":
            found += [*histories(docker, ours), *layers(docker, ours)]
        elif len(ours.layers) > (2 if ours.lowest == docker.lowest else 1):
            found.append(f"layers: there are {len(ours.layers)}")
        for line in found:
            print(way, line.encode("utf-8", "backslashreplace").decode())


main()
