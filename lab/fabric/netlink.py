"""A conversation with rtnetlink: many requests in one buffer, every answer read.

The kernel carries out each request of a buffer in order, within the `send`
call, and answers each one (rtnetlink(7)), so a whole namespace is configured
by two system calls.  Errors keep the kernel's own words (NETLINK_EXT_ACK).

`lab.fabric.messages` encodes the requests with `struct`: a request takes 5 to
20 µs that way and 300 µs with pyroute2, more than the kernel takes to carry it
out, and importing pyroute2 takes 130 ms of the agent's start.  A thousand
links are three thousand requests.  The unit tests decode every one of them
with pyroute2, which has the last word on what they mean.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lab.errors import LabError, MissingError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

_NLMSG_ERROR = 2
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i16x")
_ATTRIBUTE = struct.Struct("=HH")
_ATTRIBUTE_KIND = 0x3FFF
"""Without the flags for nested ones and for byte order."""

_BATCH = 64
"""Requests in one buffer: their answers (under 1 KiB each in kernel memory) fit its 208 KiB."""

_MISSING_PRIVILEGE = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Request:
    """One rtnetlink message that asks for an acknowledgement."""

    kind: int
    """RTM_NEWLINK and so on."""
    flags: int
    body: bytes
    purpose: str
    """What it does, for error texts: "address 10.0.0.1/24 on eth0"."""
    forgiven: tuple[int, ...] = ()
    """Error numbers that mean that nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The kernel's no to a request."""

    request: Request
    number: int
    words: str
    """What the kernel said beyond the number; often nothing."""

    def error(self, node: str) -> LabError:
        """The refusal as an error about `node`."""
        said = os.strerror(self.number) + (f": {self.words}" if self.words else "")
        text = f"{node}: {self.request.purpose}: {said}"
        if self.number in _MISSING_PRIVILEGE:
            return MissingError(text, remedy="run as root, or with CAP_NET_ADMIN")
        if self.number == errno.EOPNOTSUPP:
            return MissingError(text, remedy="`lab doctor` says what this kernel lacks")
        if self.number in (errno.ENOBUFS, errno.ENOMEM):
            return LabError(text, remedy="the kernel is out of memory for the network")
        return LabError(text)


class Session:
    """A socket to the network namespace that the calling thread is in when it is opened."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        """Open the socket; LabError if the process may open no more files."""
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        except OSError as error:
            raise LabError(
                f"no netlink socket: {error.strerror}",
                remedy="raise the limit of open files: ulimit -n 65536",
            ) from error
        # Answers without a copy of the request, and with the kernel's explanation.
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, requests: Sequence[Request]) -> list[Refusal | None]:
        """Carry out `requests` in order; one answer each, None for done (or forgiven).

        A refused request does not keep those after it from being carried out.
        """
        answers: list[Refusal | None] = []
        for start in range(0, len(requests), _BATCH):
            answers += self._ask_batch(requests[start : start + _BATCH])
        return answers

    def demand(self, requests: Sequence[Request], node: str) -> None:
        """As `ask`, but the first refusal is raised as a LabError about `node`."""
        for refusal in self.ask(requests):
            if refusal is not None:
                raise refusal.error(node)

    def _ask_batch(self, requests: Sequence[Request]) -> list[Refusal | None]:
        self._socket.send(
            b"".join(
                _HEADER.pack(_HEADER.size + len(request.body), request.kind, request.flags, i, 0)
                + request.body
                for i, request in enumerate(requests)
            )
        )
        answers: list[Refusal | None] = [None] * len(requests)
        missing = len(requests)
        while missing:
            for sequence, number, words in _answers(self._socket.recv(1 << 16)):
                missing -= 1
                request = requests[sequence]
                if number and number not in request.forgiven:
                    answers[sequence] = Refusal(request, number, words)
        return answers


def index_of(interface: str, node: str) -> int:
    """The number of the interface of that name in the calling thread's namespace, `node`'s.

    Raises LabError if there is none.
    """
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise LabError(
            f"{node}: there is no interface {interface}",
            remedy="something removed it; take the lab down and up again",
        ) from error


def _answers(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Sequence number, error number (0 for success) and explanation of each answer in `data`."""
    offset = 0
    while offset < len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if kind == _NLMSG_ERROR:
            (number,) = _ERROR.unpack_from(data, offset + _HEADER.size)
            words = ""
            if flags & _NLM_F_ACK_TLVS:
                start = offset + _HEADER.size + _ERROR.size
                words = _explanation(data[start : offset + length])
            yield sequence, -number, words
        offset += (length + 3) & ~3


def _explanation(encoded: bytes) -> str:
    for kind, value in attributes(encoded):
        if kind == _NLMSGERR_ATTR_MSG:
            return value.rstrip(b"\0").decode(errors="replace")
    return ""


def attributes(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each netlink attribute in `encoded`; stops at what is none."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(encoded):
        length, kind = _ATTRIBUTE.unpack_from(encoded, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _ATTRIBUTE_KIND, encoded[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
