"""Which rules decide on the packets of a namespace: nftables' own tracing, overheard.

A packet is traced from the moment a rule sets `meta nftrace` on it.  Such a
rule stands here in a table of its own, before all others; the table is *owned*
by the netlink socket that made it (Linux 5.12), so that it is gone as soon as
the socket is closed, also when the process was killed.  The same socket hears
what the kernel then says of each packet (nft(8), `monitor trace`), also about
rules that iptables-nft loaded.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.netlink import NETFILTER, attributes
from lab.fabric.rules.standing import OBSERVERS
from lab.observe.explain.events import Decision

_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK = 270, 1, 10
_GROUP_RULES, _GROUP_TRACE = 7, 9
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
"""Bytes of kernel memory at most; drawing a port takes some hundred messages of 1 KiB."""

_SUBSYSTEM = 10 << 8
_BEGIN, _END = 16, 17
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_GENERATION, _TRACE = 0, 3, 6, 15, 17
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_ERROR = 2
_INET = 1
_OWNED = 2
_HOOKS = (("prerouting", 0), ("output", 3))
_BEFORE_ALL = -400
_REGISTER, _META_NFTRACE = 8, 12

_FAMILIES = {0: "", 1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_VERDICTS = {
    0: "drop",
    1: "accept",
    2: "stolen",
    3: "queue",
    -1: "continue",
    -2: "break",
    -3: "jump",
    -4: "goto",
    -5: "return",
}
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _PROTOCOL, _POLICY = 8, 9, 15, 16
_BY_POLICY = 1


class Tracer:
    """Has every packet of the namespace at `path` traced until it is closed.

    LabError if the kernel refuses.
    """

    def __init__(self, path: Path, node: str) -> None:
        self.node = node
        self.commits: list[tuple[int, int]] = []
        """Between which moments its rules were changed, each time by one transaction."""
        self._empty_ns = time.time_ns()
        with netns.inside(path):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER
            )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.bind((0, 0))
            self._begin()
            for group in (_GROUP_RULES, _GROUP_TRACE):
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise LabError(
                f"the kernel traces no rules at {node} ({error.strerror})",
                remedy="this kernel needs nftables with tracing and owned tables (Linux 5.12)",
            ) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """End it; the kernel removes the table."""
        self._socket.close()

    def read(self) -> Iterator[Decision]:
        """What has been decided since; OSError (ENOBUFS) if some of it was lost."""
        while True:
            before = time.time_ns()
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                self._empty_ns = before
                return
            now = time.time_ns()
            if any(kind == _SUBSYSTEM | _NEW_GENERATION for kind, _ in _messages(data)):
                # Had it been there before, it would have been read then.
                self.commits.append((self._empty_ns, now))
            yield from decisions(data, self.node, now)

    def _begin(self) -> None:
        """Make the table; OSError with the kernel's number if it refuses."""
        self._socket.sendall(_script())
        answers = 1 + 2 * len(_HOOKS)
        while answers > 0:
            for kind, body in _messages(self._socket.recv(1 << 16)):
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    if number:
                        raise OSError(-number, os.strerror(-number))
                    answers -= 1


def lost(error: OSError) -> bool:
    """Whether `error` says that the kernel had more to say than the socket holds."""
    return error.errno == errno.ENOBUFS


def decisions(data: bytes, node: str, at_ns: int) -> Iterator[Decision]:
    """The decisions in what a netlink socket received."""
    for kind, body in _messages(data):
        if kind == _SUBSYSTEM | _TRACE:
            yield _decision(body, node, at_ns)


def _decision(body: bytes, node: str, at_ns: int) -> Decision:
    found = dict(attributes(body[4:]))
    policy = _number(found.get(_TYPE)) == _BY_POLICY
    if policy:
        code = _number(found.get(_POLICY))
    else:
        code = _signed(dict(attributes(found.get(_VERDICT, b""))).get(1))
    family = _FAMILIES.get(_number(found.get(_PROTOCOL)) if body[0] == 0 else body[0], "")
    name = _text(found.get(_TABLE))
    return Decision(
        node=node,
        packet=_number(found.get(_ID)),
        table=f"{family} {name}",
        chain=_text(found.get(_CHAIN)),
        handle=int.from_bytes(found.get(_HANDLE, b""), "big"),
        verdict=_VERDICTS.get(code, str(code)),
        header=found.get(_NETWORK, b"") + found.get(_TRANSPORT, b""),
        at_ns=at_ns,
    )


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, position)
        if length < 16:
            return
        yield kind, data[position + 16 : position + length]
        position += length + -length % 4


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _signed(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big", signed=True)


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


# --- the table ------------------------------------------------------------


def _script() -> bytes:
    """One transaction that makes the table, its chains and their rule."""
    name = OBSERVERS.partition(" ")[2]
    table = _string(1, name)
    parts = [_message(_NEW_TABLE, _CREATE, table + _word(2, _OWNED))]
    for chain, hook in _HOOKS:
        place = _nested(4, _word(1, hook) + _word(2, _BEFORE_ALL))
        body = table + _string(3, chain) + place + _string(7, "filter")
        parts.append(_message(_NEW_CHAIN, _CREATE, body))
    one = _expression("immediate", _word(1, _REGISTER) + _nested(2, _attribute(1, b"\1\0\0\0")))
    mark = _expression("meta", _word(2, _META_NFTRACE) + _word(3, _REGISTER))
    for chain, _ in _HOOKS:
        body = table + _string(2, chain) + _nested(4, one + mark)
        parts.append(_message(_NEW_RULE, _CREATE | _APPEND, body))
    begin = _header(_BEGIN, _REQUEST, struct.pack("!BBH", 0, 0, 10))
    end = _header(_END, _REQUEST, struct.pack("!BBH", 0, 0, 10))
    return begin + b"".join(parts) + end


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _header(
        _SUBSYSTEM | kind, _REQUEST | _ACK | flags, struct.pack("!BBH", _INET, 0, 0) + body
    )


def _header(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _expression(name: str, data: bytes) -> bytes:
    return _nested(1, _string(1, name) + _nested(2, data))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | 0x8000, value)


def _string(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _word(kind: int, number: int) -> bytes:
    return _attribute(kind, struct.pack("!i", number))
