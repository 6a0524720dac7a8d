#!/usr/bin/env python3
"""A web server of a folder, for tests: faulty_repository.py FOLDER

It prints its address, HOST:PORT. The first part of a path says how packages (.deb, .rpm) are sent, the rest is a path below
FOLDER. Everything else is always sent as it is.

/plain/    as they are
/long/     with bytes behind them, without end
/cut/      the first half, once for each; then as they are
/busy/     status 503, once for each; then as they are
/moved/    a redirect to /plain/
/metadata/ a redirect to an address where clouds tell machines their secrets
/out/      a redirect to a file of the client's machine
/loop/     a redirect to itself
/hang3/    three as they are; then the server waits
/asked     tells what was asked for so far, a path a line
"""
import http.server
import os
import sys
import threading
import time

FOLDER = sys.argv[1]
asked, seen, lock = [], set(), threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def send(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/asked":
            return self.send(200, "\n".join(asked).encode())
        asked.append(self.path)
        how, _, rest = self.path.lstrip("/").partition("/")
        path = os.path.join(FOLDER, *[part for part in __import__("urllib.parse").parse.unquote(rest).split("/") if part not in ("", "..")])
        if not os.path.isfile(path):
            return self.send(404, b"there is none\n")
        with open(path, "rb") as file:
            content = file.read()
        if not path.endswith((".deb", ".rpm")):
            return self.send(200, content)
        with lock:
            is_first = self.path not in seen
            seen.add(self.path)
            packages = len([one for one in asked if one.startswith("/hang3/") and one.endswith((".deb", ".rpm"))])
        match how:
            case "long":
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)
                while True:
                    self.wfile.write(b"x" * 65536)
            case "cut" if is_first:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            case "busy" if is_first:
                self.send(503, b"busy\n")
            case "moved":
                self.send(302, b"elsewhere\n" * 50, Location="/plain/" + rest)
            case "metadata":
                self.send(302, b"", Location="http://169.254.169.254/" + rest)
            case "out":
                self.send(302, b"", Location="file:///etc/passwd")
            case "loop":
                self.send(302, b"", Location=self.path)
            case "hang3" if packages > 3:
                time.sleep(600)
            case _:
                self.send(200, content)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Handler)
print("%s:%d" % server.server_address, flush=True)
server.serve_forever()
