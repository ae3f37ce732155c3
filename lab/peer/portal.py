"""A captive portal: `python -m lab.peer.portal INTERFACE ADDRESS`, in a router.

Whatever a host behind INTERFACE asks the web for arrives here (the router's
rule set sees to that) and is answered with the way to the portal's page at
ADDRESS.  A host that has accepted there, by `POST /accept`, is put into the
rule set's set of accepted addresses, and nothing stands in its way from then
on.  `GET /api` tells a host how it stands with the portal (RFC 8908), by HTTP
for want of a certificate that anybody would trust.  RFC 8952 has the words and
the architecture.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 80
TABLE = "inet portal"
_SETS = {4: "accepted_ip4", 6: "accepted_ip6"}

_API = "/api"
_API_TYPE = "application/captive+json"
"""RFC 8908, section 4.2."""

_PAGE = """\
<!doctype html>
<title>Welcome</title>
<p>This network lets you pass when you have accepted its terms.
<form method="post" action="/accept"><button>I accept</button></form>
"""


class Handler(BaseHTTPRequestHandler):
    """One request of a host that has not accepted, or has just now."""

    server: Portal
    server_version = "captive-portal"
    timeout = 30.0

    def do_GET(self) -> None:
        """The page, or the way to it for whoever wanted to go elsewhere."""
        host = self.headers.get("Host", "").rpartition("]")[2].partition(":")[0]
        if host == self.server.address and self.path == _API:
            self._answer(HTTPStatus.OK, self._state(), kind=_API_TYPE)
        elif host != self.server.address or self.path != "/":
            self._answer(HTTPStatus.FOUND, _PAGE, location=f"http://{self.server.address}/")
        else:
            self._answer(HTTPStatus.OK, _PAGE)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def do_POST(self) -> None:
        """Accept the host that asks."""
        # What is not read before closing would reset the connection.
        length = self.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit():
            self.rfile.read(min(int(length[:9]), 65536))
        host = self.headers.get("Host", "").partition(":")[0]
        if self.path != "/accept" or host != self.server.address:
            self._answer(HTTPStatus.FOUND, _PAGE, location=f"http://{self.server.address}/")
            return
        done = self._element("add")
        if done.returncode:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, done.stderr)
            return
        print(json.dumps({"event": "accepted", "address": str(self._asker())}), flush=True)
        self._answer(HTTPStatus.OK, "accepted: you may pass\n")

    def _state(self) -> str:
        """What the portal's API says to the host that asks (RFC 8908, section 5)."""
        captive = self._element("get").returncode != 0
        page = f"http://{self.server.address}/"
        return json.dumps({"captive": captive, "user-portal-url": page}) + "\n"

    def _asker(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        address = ipaddress.ip_address(self.client_address[0].partition("%")[0])
        return getattr(address, "ipv4_mapped", None) or address

    def _element(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Do something with the asker's place among those who have accepted.

        The rule set's set is the whole memory: nothing can disagree with it.
        """
        address = self._asker()
        return subprocess.run(
            ["nft", verb, "element", *TABLE.split(), _SETS[address.version], f"{{ {address} }}"],
            capture_output=True,
            text=True,
            check=False,
        )

    def _answer(
        self,
        status: HTTPStatus,
        text: str,
        *,
        location: str = "",
        kind: str = "text/html; charset=utf-8",
    ) -> None:
        body = text.encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)


class Portal(ThreadingHTTPServer):
    """The server: on one interface, for both IP versions."""

    address_family = socket.AF_INET6
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, interface: str, address: str) -> None:
        """`address` is the router's on `interface`, where the page is."""
        self._interface = interface
        self.address = address
        super().__init__(("::", PORT), Handler)

    def server_bind(self) -> None:
        """Bind without looking up a name, which takes its time where no server answers."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.encode())
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.address, PORT


def main(arguments: list[str]) -> int:
    """Serve until somebody ends it."""
    interface, address = arguments
    with Portal(interface, address) as portal:
        portal.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
