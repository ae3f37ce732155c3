"""What the agent and the zygote say to each other: JSON lines over a socket pair.

Orders go down, reports come up.  A program's life is `started` or `failed`,
and after `started`, once, `exited`.
"""

from __future__ import annotations

import msgspec

from lab.topology.behaviour import Mount


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of all messages."""


class Spawn(Message, frozen=True):
    """Start a program in a node; without `argv` and `module`, the built-in one.

    `node` is what its reports are about: the node, or one of its daemons
    (`router/upnpd`).
    """

    node: str
    host: str
    """The node's name, which its programs see as their host's."""
    namespace: str
    """Path of the node's network namespace."""
    folder: str
    """The node's folder: working directory, and where its output goes."""
    env: dict[str, str]
    """The whole environment."""
    argv: tuple[str, ...] = ()
    module: tuple[str, ...] = ()
    """A module of lab that is run as a program, and its arguments: as the built-in one, in the
    interpreter that there is, with its memory shared."""
    mounts: tuple[Mount, ...] = ()
    """What is laid over the machine's files, for this program alone."""
    groups: tuple[str, ...] = ()
    """Folders of the control groups that it joins first (`lab.runtime.limits`)."""


class Signal(Message, frozen=True):
    """Send a signal to the process group of a node's program, if it still runs."""

    node: str
    number: int


class Started(Message, frozen=True):
    """The program is in its node and runs."""

    node: str
    pid: int


class Failed(Message, frozen=True):
    """The program did not come to run: `code` as a shell would give it (126, 127, 125)."""

    node: str
    code: int
    reason: str


class Exited(Message, frozen=True):
    """A started program ended: its exit code, or minus the signal that killed it."""

    node: str
    pid: int
    code: int


_ENCODER = msgspec.json.Encoder()
_ORDERS: msgspec.json.Decoder[Spawn | Signal] = msgspec.json.Decoder(Spawn | Signal)
_REPORTS: msgspec.json.Decoder[Started | Failed | Exited] = msgspec.json.Decoder(
    Started | Failed | Exited
)


def encode(message: Message) -> bytes:
    """One line."""
    return _ENCODER.encode(message) + b"\n"


def order(line: bytes) -> Spawn | Signal:
    """The order in `line`; msgspec.DecodeError if there is none."""
    return _ORDERS.decode(line)


def report(line: bytes) -> Started | Failed | Exited:
    """The report in `line`; msgspec.DecodeError if there is none."""
    return _REPORTS.decode(line)
