#!/usr/bin/env python3
"""Measures `twostage serve` beside nginx and lighttpd, in one run on one machine: benches/serving.py [--rounds N] [--seconds S]

The server has processor 0 for itself and the load (wrk, one thread) processor 1; the servers take turns, and each number
is the median of all rounds. Ratios are medians of the ratios within a round. All of them write an access log, and send
the same bytes from the same file system, page cache warm. CPU is that of the server's processes, by /proc/*/schedstat. A peer that is
not installed is named and left out.
"""
import argparse
import gzip
import io
import os
import platform
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TWOSTAGE = os.path.join(os.path.dirname(HERE), "target/release/twostage")
PROJECT = '[project]\nname = "bench"\n[base]\nimage = "debian"\n'
NGINX = """
daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.error;
events {{ worker_connections 16000; use epoll; }}
http {{
  sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 60s; default_type application/octet-stream;
  access_log {work}/nginx.log combined buffer=64k flush=100ms;
  client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}
}}
"""
LIGHTTPD = """
server.modules = ( "mod_accesslog" )
server.document-root = "{root}"
server.port = {port}
server.bind = "127.0.0.1"
server.max-keep-alive-requests = 1000000000
server.max-fds = 16000
server.max-connections = 16000
server.errorlog = "{work}/lighttpd.error"
accesslog.filename = "{work}/lighttpd.log"
mimetype.assign = ( "" => "application/octet-stream" )
"""


def deb(path, name, size):
    """A package with one file of so many random bytes, not packed."""
    content = random.Random(name).randbytes(size)

    def tar(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for member, data in files:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Bench <bench@example.invalid>\nDescription: a package\n"
    members = [("debian-binary", b"2.0\n"), ("control.tar.gz", gzip.compress(tar([("./control", control.encode())]), mtime=0)),
               ("data.tar", tar([(f"./usr/share/{name}", content)]))]
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for member, data in members:
            file.write(f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2))


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    def __init__(self, name, command, port, log, pinned=True):
        self.name, self.port = name, port
        self.log = open(log, "ab")
        command = ["taskset", "-c", "0", *command] if pinned else command
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > until or self.child.poll() is not None:
                    sys.exit(f"{name} does not start: see {log}")
                time.sleep(0.05)

    def processes(self):
        path = f"/proc/{self.child.pid}/task/{self.child.pid}/children"
        with open(path) as file:
            return [self.child.pid, *map(int, file.read().split())]

    def cpu(self):
        """Seconds that its threads ran, as the scheduler counts them: a tick is too long for a short run."""
        total = 0
        for pid in self.processes():
            for thread in os.listdir(f"/proc/{pid}/task"):
                try:
                    with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                        total += int(file.read().split()[0])
                except OSError:
                    pass  # It has ended.
        return total / 1e9

    def rss(self):
        """Bytes in memory."""
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/status") as file:
                total += int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) * 1024
        return total

    def stop(self):
        self.child.terminate()
        self.child.wait(20)
        self.log.close()


def ours(project, work, pinned=True, options=()):
    port = free_port()
    command = [TWOSTAGE, "--project", project, "serve", "--listen", f"127.0.0.1:{port}", *options]
    return Server("twostage", command, port, os.path.join(work, "twostage.log"), pinned)


def peers(root, work):
    found = []
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    for name, text, command in [("nginx", NGINX, ["nginx", "-c"]), ("lighttpd", LIGHTTPD, ["lighttpd", "-D", "-f"])]:
        program = shutil.which(command[0], path=path)
        if program is None:
            print(f"(no {name}: apt-get install nginx-light lighttpd)")
            continue
        port, config = free_port(), os.path.join(work, f"{name}.conf")
        with open(config, "w") as file:
            file.write(text.format(work=work, root=root, port=port))
        found.append(Server(name, [program, *command[1:], config], port, os.path.join(work, f"{name}.out")))
    return found


def load(server, target, connections, seconds):
    """Requests a second, bytes a second and CPU seconds for each request and each gigabyte."""
    before = server.cpu()
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{server.port}{target}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = server.cpu() - before
    requests, _ = re.search(r"(\d+) requests in ([\d.]+)", said).groups()
    read = re.search(r"requests in [\d.]+\w+, ([\d.]+)([KMGT]?B) read", said)
    size = float(read[1]) * {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}[read[2]]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    if "Non-2xx" in said:
        sys.exit(f"{server.name} {target}: {said}")
    return {"rate": rate, "bytes": size / seconds, "per_request": used / max(int(requests), 1), "per_gb": used / max(size / 1e9, 1e-9)}


def compare(name, target, servers, connections, rounds, seconds):
    results = {server.name: [] for server in servers}
    for server in servers:
        load(server, target, connections, 1)
    for number in range(rounds):
        # The order changes, so that nobody always follows the same one.
        for server in servers[number % len(servers):] + servers[:number % len(servers)]:
            results[server.name].append(load(server, target, connections, seconds))
    middle = lambda key, runs: statistics.median(run[key] for run in runs)
    for server in servers:
        runs = results[server.name]
        pairs = list(zip(results["twostage"], runs))
        ratios = [statistics.median(mine[key] / theirs[key] if theirs[key] else float("nan") for mine, theirs in pairs) for key in ("rate", "per_request", "per_gb")]
        shown = "" if server.name == "twostage" else f"{ratios[0]:.2f} x requests, {ratios[1]:.2f} x cpu a request, {ratios[2]:.2f} x cpu a GB"
        print(f"| {name} | {server.name} | {middle('rate', runs):,.0f} | {middle('bytes', runs) / 1e6:,.0f} | "
              f"{middle('per_request', runs) * 1e6:.1f} | {middle('per_gb', runs):.3f} | {shown} |", flush=True)


def first_byte(port, target="/healthz"):
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 10) as stream:
        stream.settimeout(10)
        stream.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        if not stream.recv(1):
            raise OSError("no answer")
    return time.monotonic() - start


def crowd(server, large, idle, reading):
    """Memory with many idle and slow connections, and how long a new client waits then."""
    held = []
    for _ in range(idle):
        stream = socket.create_connection(("127.0.0.1", server.port), 10)
        held.append(stream)
    for stream in held:
        stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(reading):
        stream = socket.create_connection(("127.0.0.1", server.port), 10)
        stream.sendall(f"GET {large} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        held.append(stream)
    for _ in range(3):
        for stream in held[idle:]:
            stream.recv(64 << 10)
    answered = sum(1 for stream in held if stream.recv(1))
    times = sorted(first_byte(server.port) for _ in range(100))
    print(f"| {server.name} | {answered} of {idle + reading} | {server.rss() / 1e6:.0f} MB | {times[50] * 1e3:.2f} / {times[98] * 1e3:.2f} ms |", flush=True)
    for stream in held:
        stream.close()


def busy(project, work, packages):
    """The first byte for a new client while packages are published."""
    server, times, done = ours(project, work, pinned=False), [], threading.Event()

    def ask():
        while not done.is_set():
            times.append(first_byte(server.port, "/main/dists/twostage/InRelease"))
            time.sleep(0.002)

    asking = threading.Thread(target=ask)
    asking.start()
    start = time.monotonic()
    published = subprocess.run([TWOSTAGE, "--project", project, "-q", "publish", *packages], check=False, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    done.set()
    asking.join()
    server.stop()
    if published.returncode:
        sys.exit("publish failed")
    times.sort()
    at = lambda part: times[min(int(len(times) * part), len(times) - 1)] * 1e3
    print(f"\nInRelease while {len(packages)} packages are published ({took:.1f} s): {len(times)} new clients, first byte "
          f"{at(0.5):.2f} ms median, {at(0.99):.2f} ms p99, {at(1):.2f} ms at most", flush=True)


def fetch(server, target, root):
    body = urllib.request.urlopen(f"http://127.0.0.1:{server.port}{target}").read()
    path = os.path.join(root, target.lstrip("/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(body)
    return len(body)


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    versions = [f"Linux {platform.release()}"]
    for command in (["nginx", "-v"], ["lighttpd", "-v"], ["wrk", "-v"]):
        program = shutil.which(command[0], path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
        if program:
            said = subprocess.run([program, *command[1:]], check=False, capture_output=True, text=True)
            versions.append(re.search(r"(nginx/[\d.]+|lighttpd/[\d.]+|wrk \S+)", said.stderr + said.stdout)[1])
    print(f"{model[1].strip() if model else platform.machine()}, {os.cpu_count()} processors; {', '.join(versions)}; load {os.getloadavg()[0]:.1f}\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--packages", type=int, default=1000, help="that are published while clients ask")
    parser.add_argument("--only", choices=["small", "medium", "large", "crowd", "publish"], action="append")
    arguments = parser.parse_args()
    chosen = arguments.only or ["small", "medium", "large", "crowd", "publish"]
    if not os.path.exists(TWOSTAGE):
        sys.exit("first: cargo build --release")
    if not shutil.which("wrk") and set(chosen) & {"small", "medium", "large"}:
        sys.exit("there is no wrk: apt-get install wrk")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    machine()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.dirname(TWOSTAGE))) as work:
        os.chmod(work, 0o755)
        project, root, files = (os.path.join(work, name) for name in ("project", "root", "files"))
        for folder in (project, root, files):
            os.mkdir(folder)
        with open(os.path.join(project, "twostage.toml"), "w") as file:
            file.write(PROJECT)
        sizes = {"medium": (256 << 10) - 10_700, "large": (100 << 20) - 10_700, **{f"small{n}": 100 for n in range(9)}}
        for name, size in sizes.items():
            deb(os.path.join(files, f"{name}.deb"), name, size)
        subprocess.run([TWOSTAGE, "--project", project, "-q", "publish", *(os.path.join(files, name) for name in sorted(os.listdir(files)))],
                       check=True, stdout=subprocess.DEVNULL)
        mine = ours(project, work)
        index = "/main/dists/twostage/main/binary-amd64/Packages"
        text = urllib.request.urlopen(f"http://127.0.0.1:{mine.port}{index}").read().decode()
        target = {name: "/main/" + re.search(rf"Filename: (\S*/{name}_\S*)", text)[1] for name in ("medium", "large")}
        length = {name: fetch(mine, where, root) for name, where in {"small": index, **target}.items()}
        subprocess.run(["chmod", "-R", "a+rX", root], check=True)
        servers = [mine, *peers(root, work)]
        print("| | server | requests/s | MB/s | cpu us a request | cpu s a GB | twostage against it |\n|---|---|---|---|---|---|---|")
        for name, where, connections in [("small", index, arguments.connections), ("medium", target["medium"], arguments.connections), ("large", target["large"], 4)]:
            if name in chosen:
                compare(f"{length[name]:,} bytes", where, servers, connections, arguments.rounds, arguments.seconds)
        for server in servers:
            server.stop()
        if "crowd" in chosen:
            # The peers answer what they have a file for.
            with open(os.path.join(root, "healthz"), "w") as file:
                file.write("ok\n")
            print("\n| 5,000 idle, 500 reading slowly | answered | memory | a new client, median / p99 |\n|---|---|---|---|")
            for server in [ours(project, work), *peers(root, work)]:
                crowd(server, target["large"], 5000, 500)
                server.stop()
        if "publish" in chosen:
            packages = []
            for number in range(arguments.packages):
                packages.append(os.path.join(files, f"more{number}.deb"))
                deb(packages[-1], f"more{number}", 20_000)
            busy(project, work, packages)


if __name__ == "__main__":
    main()
