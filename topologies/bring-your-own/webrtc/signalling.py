"""A mailbox for signalling, as any web developer would write one: HTTP, and nothing of lab's.

`PUT /NAME` leaves a message for NAME, `GET /NAME` waits until there is one and
takes it.  Usage: python3 signalling.py PORT
"""

import json
import sys
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue

LARGEST = 1 << 16
WAIT_S = 20


class Mailbox(BaseHTTPRequestHandler):
    boxes: defaultdict[str, Queue[bytes]] = defaultdict(Queue)

    def do_PUT(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > LARGEST:
            return self.send_error(413)
        self.boxes[self.path].put(self.rfile.read(size))
        self.answer(204)

    def do_GET(self):
        try:
            self.answer(200, self.boxes[self.path].get(timeout=WAIT_S))
        except Empty:
            self.answer(404)

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("", int(sys.argv[1])), Mailbox)
server.daemon_threads = True
print(json.dumps({"event": "ready"}), flush=True)
server.serve_forever()
