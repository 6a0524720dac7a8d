#!/usr/bin/env python3
"""A repository server that is wrong in one way, for tests of what a runtime build refuses.

usage: faulty_server.py KEYS REST [OLD NEW]

Client files (*.sources) and public keys come from the server KEYS, everything else from the server REST
(both HOST:PORT), with OLD in a path replaced by NEW. REST may also be a folder: then it is what every
snapshot has. It is asked as a proxy, as twostage serve is, and prints its own port first.
"""
import http.client
import http.server
import pathlib
import sys

keys, rest = sys.argv[1:3]
old, new = sys.argv[3:5] if len(sys.argv) > 3 else ("", "")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.replace(old, new) if old else self.path
        server = keys if path.endswith((".sources", ".asc")) and "/repodata/" not in path else rest
        if server.startswith("/"):
            file = pathlib.Path(server, path.split("/@")[-1].partition("/")[2])
            status, body = (200, file.read_bytes()) if file.is_file() else (404, b"")
        else:
            ask = http.client.HTTPConnection(server)
            ask.request("GET", path, headers={"Host": "repository.twostage.invalid"})
            answer = ask.getresponse()
            status, body = answer.status, answer.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
