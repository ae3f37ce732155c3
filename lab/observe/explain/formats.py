"""Formats that packets are recognised by and that have no codec of their own in `lab.peer`.

WebSocket frames (RFC 6455, section 5.2) as they pass, which the codec of the
web relay reads from a stream only, first lines of HTTP, and what peers on one
LAN tell each other.
"""

from __future__ import annotations

import re

_LONG, _LONGER = 126, 127
_CLOSE, _PING, _PONG = 8, 9, 10
_OPCODES = {0: "continued", 1: "text", 2: "", _CLOSE: "close", _PING: "ping", _PONG: "pong"}
_STATUS = re.compile(r"^HTTP/1\.[01] (\d{3}.*)$")
_TARGET = 10
"""How much of the path that a request asks for is shown."""
_LAN = re.compile(
    rb'^\{"id": ?"[0-9a-f]{4,32}", ?"from": ?"([^"]{1,63})".*?"kind": ?"([a-z-]{1,20})"', re.DOTALL
)
_LAN_RECEIPT = re.compile(rb'^\{"ack": ?"[0-9a-f]{4,32}"\}$')


def websocket(data: bytes) -> tuple[str, bytes] | None:
    """The kind of the WebSocket frame that `data` begins with, and its payload, unmasked.

    The kind is empty for data, else `ping`, `close` and the like.  None if it is none.
    """
    if len(data) < 2 or data[0] & 0x70 or (data[0] & 0x0F) not in _OPCODES or not data[0] & 0x80:
        return None
    masked, length, at = data[1] & 0x80, data[1] & 0x7F, 2
    if length == _LONG:
        length, at = int.from_bytes(data[2:4], "big"), 4
    elif length == _LONGER:
        length, at = int.from_bytes(data[2:10], "big"), 10
    payload = data[at + (4 if masked else 0) :][:length]
    if not payload and length:
        return None
    if masked:
        mask = data[at : at + 4]
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return _OPCODES[data[0] & 0x0F], payload


def lan_message(data: bytes) -> tuple[str, str] | None:
    """Who says what to a peer on the same LAN (`lab.peer.lan`): a kind and a name.

    `receipt` and nobody for an acknowledgement; None if it is neither.
    """
    if found := _LAN.match(data):
        return found[2].decode(), found[1].decode(errors="replace")
    return ("receipt", "") if _LAN_RECEIPT.match(data) else None


def http_line(data: bytes) -> str:
    """The first line of an HTTP message in short: what is asked for, or how it was answered."""
    line = data.split(b"\r\n", 1)[0][:90].decode(errors="replace")
    if answer := _STATUS.match(line):
        return answer[1]
    line = line.removesuffix(" HTTP/1.1").removesuffix(" HTTP/1.0")
    method, _, target = line.partition(" ")
    if target.startswith("http://"):
        # As a proxy is asked; the path says more than the server does.
        target = "/" + target.removeprefix("http://").partition("/")[2]
        line = f"{method} {target}"
    if target.startswith("/") and len(target) > _TARGET:
        return f"{method} {target[:_TARGET]}\N{HORIZONTAL ELLIPSIS}"
    return line
