#!/usr/bin/env python3
"""A server of what ADD fetches, for tests: url_server.py

It prints its address, HOST:PORT. /asked tells what was asked for so far, a path a line.
"""
import base64
import http.server
import io
import tarfile

DATE = "Fri, 14 Jul 2017 02:40:00 GMT"


def packed():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("member"))
    return file.getvalue()


FILES = {"/dated": b"dated\n", "/a%20b": b"named\n", "/packed.tar.gz": packed(), "/empty": b"", "/": b"the root\n"}
asked = []


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        # (A proxy is asked for a whole URL.)
        path = self.path.partition("?")[0]
        if path == "/asked":
            return self.answer(200, "\n".join(asked).encode())
        asked.append(path)
        if path in FILES:
            return self.answer(200, FILES[path], Last_Modified=DATE)
        match path:
            case "/big":
                self.answer(200, b"1234567\n" * (1 << 20), Last_Modified=DATE)
            case "/undated":
                self.answer(200, b"undated\n")
            case "/changing":
                self.answer(200, b"%d\n" % len(asked), Last_Modified=DATE)
            case "/moved":
                self.answer(302, b"elsewhere", Location="/dated", Last_Modified="Sat, 01 Jan 2000 00:00:00 GMT")
            case "/loop":
                self.answer(302, b"", Location="/loop")
            case "/out":
                self.answer(302, b"", Location="file:///etc/passwd")
            case "/private":
                known = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:secret").decode()
                self.answer(200 if known else 401, b"private\n")
            case "/large":
                self.answer(200, b"", Content_Length=str(1 << 40))
            case "/short":
                self.answer(200, b"short", Content_Length="100")
            case path if path.startswith("http://") and path.endswith("/local"):
                self.answer(302, b"", Location="http://127.0.0.1:9/x")
            case path if path.startswith("http://") and path.endswith("/file"):
                self.answer(302, b"", Location="file:///etc/passwd")
            case path if path.startswith("http://") and path.endswith("/again"):
                self.answer(302, b"", Location=path)
            case path if path.startswith("http://") and path.endswith("/moved"):
                self.answer(302, b"", Location="/y")
            case path if path.startswith("http://"):
                self.answer(200, f"through a proxy: {path}\n".encode())
            case _:
                self.answer(404, b"nothing")

    # BuildKit asks first what it would get.
    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
