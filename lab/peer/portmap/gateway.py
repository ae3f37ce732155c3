"""The router, as any program finds it: by the default route."""

from __future__ import annotations

import socket
from pathlib import Path

ROUTES = Path("/proc/net/route")
_UP, _GATEWAY = 0x1, 0x2


def default_gateway(table: str) -> str:
    """The gateway of the default route with the lowest metric in /proc/net/route's text.

    "" if there is none.
    """
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        destination, gateway, flags, metric, mask = (fields[i] for i in (1, 2, 3, 6, 7))
        wanted = _UP | _GATEWAY
        if destination == mask == "00000000" and int(flags, 16) & wanted == wanted:
            found.append((int(metric), socket.inet_ntoa(bytes.fromhex(gateway)[::-1])))
    return min(found)[1] if found else ""


def gateway() -> str:
    """The default gateway of this host (IPv4); "" if there is none."""
    try:
        return default_gateway(ROUTES.read_text())
    except OSError:
        return ""


def own_address(towards: str) -> str:
    """The address that this host has on its way to `towards`; OSError if there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((towards, 9))  # sends nothing
        return str(sock.getsockname()[0])
