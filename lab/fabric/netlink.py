"""A conversation with the kernel over netlink: many requests in one buffer, every answer read.

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
from dataclasses import dataclass, field
from typing import Self

from lab.errors import LabError, MissingError

NETFILTER = 12
"""The protocol of nftables and of connection tracking; `socket` has no name for it."""

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
"""Asks for everything there is; a dump is asked for by itself."""

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_HEADER = struct.Struct("=IHHII")
_NUMBER = struct.Struct("=i")
_ECHO_BYTES = 16
"""The header of the request, which follows the number of an error."""
_ATTRIBUTE = struct.Struct("=HH")
_LARGEST_NUMBER = 0x3FFFFFFF
_ATTRIBUTE_KIND = 0x3FFF
"""Without the flags for nested ones and for byte order."""

_BATCH = 64
"""Orders in one buffer: their answers (under 1 KiB each in kernel memory) fit its 208 KiB."""
_QUESTIONS = 32
"""Questions in one buffer: what is said of an interface takes some 4 KiB there."""
_BUFFER = 1 << 16

_MISSING_PRIVILEGE = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel: an order to be acknowledged, or a question."""

    kind: int
    """RTM_NEWLINK and so on."""
    flags: int
    body: bytes
    purpose: str
    """What it does, for error texts: "address 10.0.0.1/24 on eth0"."""
    forgiven: tuple[int, ...] = ()
    """Error numbers that mean that nothing is left to do."""

    @property
    def ends_with_its_answer(self) -> bool:
        """Whether the first message is the whole answer, and no word says that it ends."""
        return not self.flags & NLM_F_ACK and self.flags & NLM_F_DUMP != NLM_F_DUMP


@dataclass(frozen=True, slots=True)
class Refusal:
    """The kernel's no to a request."""

    request: Request
    number: int
    words: str
    """What the kernel said beyond the number; often nothing."""

    @classmethod
    def of(cls, request: Request, flags: int, body: bytes) -> Self | None:
        """What the last message of an answer refuses; None for nothing, or nothing that matters."""
        (number,) = _NUMBER.unpack_from(body) if len(body) >= _NUMBER.size else (0,)
        if number >= 0 or -number in request.forgiven:
            return None
        words = ""
        if flags & _NLM_F_ACK_TLVS:
            told = dict(attributes(body[_NUMBER.size + _ECHO_BYTES :]))
            words = told.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
        return cls(request, -number, words)

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


@dataclass(slots=True)
class Answer:
    """What the kernel said to a request."""

    bodies: list[bytes] = field(default_factory=list)
    """Of each message, without its header; none where something was merely done."""
    refusal: Refusal | None = None


class Session:
    """A socket to the network namespace that the calling thread is in when it is opened."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        """Open the socket; LabError if the process may open no more files."""
        self._socket = open_socket(protocol)
        self._begun = 0
        # Answers without a copy of the request, and with the kernel's explanation.
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, requests: Sequence[Request]) -> list[Refusal | None]:
        """Carry out `requests` in order; one answer each, None for done (or forgiven).

        A refused request does not keep those after it from being carried out.
        """
        answers: list[Answer] = []
        for start in range(0, len(requests), _BATCH):
            answers += self._exchange(requests[start : start + _BATCH])
        return [answer.refusal for answer in answers]

    def demand(self, requests: Sequence[Request], node: str) -> None:
        """As `ask`, but the first refusal is raised as a LabError about `node`."""
        for refusal in self.ask(requests):
            if refusal is not None:
                raise refusal.error(node)

    def read(self, questions: Sequence[Request]) -> list[Answer]:
        """What the kernel says to each of `questions`, in order."""
        answers: list[Answer] = []
        for start in range(0, len(questions), _QUESTIONS):
            answers += self._exchange(questions[start : start + _QUESTIONS])
        return answers

    def _exchange(self, requests: Sequence[Request]) -> list[Answer]:
        # Numbered anew each time: what is left of an exchange that broke off is passed over.
        first, self._begun = self._begun, (self._begun + len(requests)) & _LARGEST_NUMBER
        self._socket.send(
            b"".join(
                _HEADER.pack(
                    _HEADER.size + len(request.body), request.kind, request.flags, first + i, 0
                )
                + request.body
                for i, request in enumerate(requests)
            )
        )
        answers = [Answer() for _ in requests]
        missing = len(requests)
        while missing:
            for kind, flags, number, body in messages(self._socket.recv(_BUFFER)):
                place = number - first
                if not 0 <= place < len(requests):
                    continue
                answer, request = answers[place], requests[place]
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    answer.refusal = Refusal.of(request, flags, body)
                    missing -= 1
                    continue
                answer.bodies.append(body)
                missing -= request.ends_with_its_answer
        return answers


def open_socket(protocol: int = socket.NETLINK_ROUTE, groups: int = 0) -> socket.socket:
    """A netlink socket in the calling thread's namespace, which hears the notices to `groups`.

    Raises LabError if the process may open no more files.
    """
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise LabError(
            f"no netlink socket: {error.strerror}",
            remedy="raise the limit of open files: ulimit -n 65536",
        ) from error
    opened.bind((0, groups))
    return opened


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


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, number and body of each message in `data`; stops at what is none."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, number, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded to a multiple of four bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def attributes(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each netlink attribute in `encoded`; stops at what is none."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(encoded):
        length, kind = _ATTRIBUTE.unpack_from(encoded, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _ATTRIBUTE_KIND, encoded[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
