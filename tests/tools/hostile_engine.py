#!/usr/bin/env python3
"""An engine whose containers leave something hostile: Docker's own, but for one answer.

usage: hostile_engine.py SOCKET KIND ENDING

Passes every connection on to Docker's socket (DOCKER_HOST, if that names one). Where the package folder
of a container is asked for, it answers with a tar of its own making: KIND is escape, absolute, link,
device, cut or record, a name that says that it has a terabyte;
ENDING is how the names of packages end.
"""
import io
import os
import socket
import sys
import tarfile
import threading

path, kind, ending = sys.argv[1:4]
docker = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
if not docker.startswith("unix://"):
    sys.exit(f"hostile_engine.py: DOCKER_HOST is {docker}, and not the socket of a Docker on this machine (unix://...)")
ENTRIES = {
    "escape": ("../../etc/passwd", tarfile.REGTYPE),
    "absolute": ("/etc/passwd", tarfile.REGTYPE),
    "link": ("out/shadow" + ending, tarfile.SYMTYPE),
    "device": ("out/null" + ending, tarfile.CHRTYPE),
    "cut": ("out/mini" + ending, tarfile.REGTYPE),
    "record": ("out/mini" + ending, tarfile.GNUTYPE_LONGNAME),
}


def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        top = tarfile.TarInfo("out/")
        top.type = tarfile.DIRTYPE
        tar.addfile(top)
        name, entry_type = ENTRIES[kind]
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.devmajor, entry.devminor = entry_type, "", 1, 3
        content = b"root::0:0::/:/bin/sh\n" * 100
        if entry_type == tarfile.SYMTYPE:
            entry.linkname = "/etc/shadow"
        if entry_type == tarfile.REGTYPE:
            entry.size = len(content)
        if kind == "record":
            entry.size = 1 << 40
            out.write(entry.tobuf(format=tarfile.GNU_FORMAT) + content)
        else:
            tar.addfile(entry, io.BytesIO(content))
    data = out.getvalue()
    return data[:1500] if kind == "cut" else data


def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def quietly(source, target):
    try:
        copy(source, target)
    except OSError:
        pass


def serve(client):
    head = b""
    while b"\r\n" not in head:
        data = client.recv(65536)
        if not data:
            return
        head += data
    line = head.split(b"\r\n", 1)[0]
    if line.startswith(b"GET ") and b"/archive?path=" in line and b"out" in line:
        body = archive()
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        client.sendall(b"%x\r\n%s\r\n" % (len(body), body) + (b"" if kind == "cut" else b"0\r\n\r\n"))
        client.close()
        return
    engine = socket.socket(socket.AF_UNIX)
    engine.connect(docker.removeprefix("unix://"))
    engine.sendall(head)
    back = threading.Thread(target=quietly, args=(engine, client), daemon=True)
    back.start()
    quietly(client, engine)
    back.join()
    client.close()


listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
os.chmod(path, 0o600)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
