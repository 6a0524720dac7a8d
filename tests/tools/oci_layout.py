#!/usr/bin/env python3
"""Turns a docker archive into an OCI layout folder: oci_layout.py ARCHIVE.tar FOLDER"""
import hashlib
import json
import os
import sys
import tarfile

archive, folder = sys.argv[1:]
blobs = os.path.join(folder, "blobs/sha256")
os.makedirs(blobs)


def put(data, media):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}


with tarfile.open(archive) as tar:
    read = lambda name: tar.extractfile(name).read()
    manifest = json.loads(read("manifest.json"))[0]
    kind = "application/vnd.oci.image."
    config = put(read(manifest["Config"]), kind + "config.v1+json")
    layers = [put(read(name), kind + "layer.v1.tar") for name in manifest["Layers"]]
image = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": config, "layers": layers}
index = {"schemaVersion": 2, "manifests": [put(json.dumps(image).encode(), kind + "manifest.v1+json")]}
for name, value in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
    with open(os.path.join(folder, name), "w") as file:
        json.dump(value, file)
