"""A BitTorrent tracker (BEP 3, BEP 23) that also keeps torrent files: `PUT` and `GET /NAME`.

Debian's opentracker would do as well; this one fits on a page.
Usage: python3 tracker.py PORT
"""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LARGEST = 1 << 20
MOST_PEERS = 50
WAIT_S = 30
INTERVAL_S = 5


class Tracker(BaseHTTPRequestHandler):
    swarms: dict[str, dict[tuple[str, int], None]] = {}
    torrents: dict[str, bytes] = {}
    changed = threading.Condition()

    def do_GET(self):
        parts = urlsplit(self.path)
        if parts.path == "/announce":
            return self.announce(parse_qs(parts.query, encoding="latin-1"))
        with self.changed:
            self.changed.wait_for(lambda: parts.path in self.torrents, WAIT_S)
            torrent = self.torrents.get(parts.path)
        if torrent is None:
            return self.send_error(404)
        self.answer(200, torrent)

    def do_PUT(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > LARGEST:
            return self.send_error(413)
        with self.changed:
            self.torrents[self.path] = self.rfile.read(size)
            self.changed.notify_all()
        self.answer(201)

    def announce(self, query):
        """Who else there is; the address is the one that the packet came from."""
        try:
            peer = (self.client_address[0], int(query["port"][0]))
            swarm = self.swarms.setdefault(query["info_hash"][0], {})
        except (KeyError, ValueError):
            return self.send_error(400)
        others = [other for other in list(swarm) if other != peer][:MOST_PEERS]
        swarm[peer] = None
        if query.get("event") == ["stopped"]:
            del swarm[peer]
        print(f"{peer[0]}:{peer[1]} {query.get('event', [''])[0]} {others}", flush=True)
        compact = b"".join(socket.inet_aton(a) + p.to_bytes(2, "big") for a, p in others)
        answer = b"d8:intervali%de5:peers%d:%se" % (INTERVAL_S, len(compact), compact)
        self.answer(200, answer)

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("", int(sys.argv[1])), Tracker)
server.daemon_threads = True
print(json.dumps({"event": "ready"}), flush=True)
server.serve_forever()
