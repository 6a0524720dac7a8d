#!/usr/bin/env python3
"""A man in the middle for tests: passes everything through to one server, and flips one bit of one
file on the way, as the request's own path asks.

    flipping_proxy.py HOST:PORT TARGET...

    GET /main/dists/…                  passed through
    GET /pass/main/dists/…             the same, without the first part of the path
    GET /flip-2-100/main/dists/…       passed through without its first part; if what is left is the
                                       third TARGET, bit 0 of byte 100 of its body (counted round) is flipped
    GET /flips                         how many bodies have been flipped

It prints `listening HOST:PORT`. A client that uses it as an HTTP proxy is answered for the server and
for itself only: nothing that a flipped address names is ever asked.
"""
import http.client
import http.server
import re
import sys
import threading
from urllib.parse import urlsplit

UPSTREAM, TARGETS = sys.argv[1], sys.argv[2:]
flips = 0
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "etag"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        global flips
        path, host = self.path, self.headers.get("Host", "")
        if path.startswith("http://"):
            url = urlsplit(path)
            if url.netloc not in (UPSTREAM, own):
                return self.answer(403, [], b"not here\n")
            path, host = url.path, url.netloc
        if path == "/flips":
            return self.answer(200, [], str(flips).encode())
        wanted = None
        asked = re.match(r"/(?:pass|flip-([0-9]+)-([0-9]+))(/.*)", path)
        if asked:
            path = asked[3]
            if asked[1] and path == TARGETS[int(asked[1])]:
                wanted = int(asked[2])
        connection = http.client.HTTPConnection(UPSTREAM, timeout=10)
        passed = ["Range", "If-Range", "If-Modified-Since", "If-None-Match"]
        headers = {name: self.headers[name] for name in passed if name in self.headers and not asked}
        connection.request(self.command, path, headers=headers | {"Host": host})
        response = connection.getresponse()
        body = bytearray(response.read())
        if wanted is not None and response.status == 200 and body:
            body[wanted % len(body)] ^= 1
            with lock:
                flips += 1
        self.answer(response.status, response.getheaders(), bytes(body))
        connection.close()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
# A client may hang up whenever it likes.
server.handle_error = lambda *_: None
own = f"127.0.0.1:{server.server_address[1]}"
print(f"listening {own}", flush=True)
server.serve_forever()
