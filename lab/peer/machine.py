"""The shape of every protocol here: bytes and a time in, bytes and a deadline out.

A machine owns no socket and reads no clock.  `lab.peer.driver` lends it both;
a test, or a simulation of a million nodes, lends it others.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from lab.peer.endpoint import Endpoint


class Datagram(NamedTuple):
    """A packet that a machine wants sent."""

    payload: bytes
    destination: Endpoint
    kind: str
    """Under which word the packet is counted (`lab.peer.record.Tally`)."""


class Machine(Protocol):
    """One state machine on a socket that it may share with others."""

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        """Take a packet; the kind it is counted under, or "" if it is not for this machine.

        Never raises, whatever the packet holds.
        """

    def tick(self, now: float) -> None:
        """Do what is due by `now`."""

    def deadline(self) -> float | None:
        """When `tick` has something to do next; None for never."""

    def take(self) -> list[Datagram]:
        """The packets to send now; each is handed out once."""
