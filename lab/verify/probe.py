"""Sending packets through a router and seeing what comes of each.

Nothing waits for silence.  Behind the packets of one exchange go pings from
either side to the router's own address on that side: wires and router keep
the order of packets, so when pings have come back twice, what has not
appeared by then was dropped.  Where a router answers no ping, a deadline
that knows the wires' delays takes their place.
"""

from __future__ import annotations

import itertools
import secrets
import select
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint
from lab.verify.packets import ECHO_REQUEST, SYN, Packet
from lab.verify.patience import Patience
from lab.verify.site import Site
from lab.verify.wire import Wire

INSIDE, OUTSIDE = "inside", "outside"
_AT_ONCE = 24
"""Packets on the way together: fewer than the shortest queue of a slow link holds."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet to send, on the side where it is put on the wire."""

    side: str
    packet: Packet


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet that came out, and on which side."""

    side: str
    packet: Packet


@dataclass(slots=True)
class Outcome:
    """What came of one packet: itself, translated or not, and answers to it."""

    passed: list[Seen] = field(default_factory=list)
    answers: list[Seen] = field(default_factory=list)

    def on(self, side: str) -> Packet | None:
        """The packet as it came out on `side`; None if it did not."""
        return next((seen.packet for seen in self.passed if seen.side == side), None)


class Probe:
    """The two wires of one router; a context manager."""

    def __init__(self, site: Site, paths: LabPaths) -> None:
        if site.inside is None:
            raise ValueError("a probe needs a router, which has two sides")
        self.site = site
        self._tags = itertools.count(secrets.randbits(31))
        self._used: set[int] = set()
        self.hosts = site.hosts
        """Two inside addresses to play; one if the LAN has no more."""
        nat = site.node.nat
        # Each takes a place in the kernel's one table of neighbours: only where they are needed.
        self._spares = list(site.spares if nat is not None and nat.sessions else ())
        own = (*site.hosts, *self._spares)
        secrets.SystemRandom().shuffle(self._spares)
        self._answers_ping = {INSIDE: True, OUTSIDE: True}
        self.wires = {
            OUTSIDE: Wire(
                paths.netns(site.outside.node),
                site.outside.interface,
                site.outside.peer_mac,
                addresses=site.remotes,
            )
        }
        try:
            self.wires[INSIDE] = Wire(
                paths.netns(site.inside.node),
                site.inside.interface,
                site.inside.peer_mac,
                addresses=own,
                own=own if site.quiet else (),
                ipv4=site.ipv4,
            )
            self.wires[INSIDE].announce(site.gateway or site.inner)
        except BaseException:
            for wire in self.wires.values():
                wire.close()
            raise
        self._outcomes: dict[int, Outcome] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self.wires.values():
            wire.close()

    def change_hosts(self) -> bool:
        """Play two others from now on; False where the LAN has no more.

        Nothing of the lab, nor of an earlier verification, is known of them.
        """
        if len(self._spares) < 2:
            return False
        self.hosts = (self._spares[0], self._spares[1])
        # Round and round, if need be.
        self._spares = self._spares[2:] + self._spares[:2]
        return True

    # --- packets --------------------------------------------------------------

    def tag(self) -> int:
        """A tag that no other packet has."""
        return next(self._tags) & 0xFFFFFFFF

    def port(self, first: int = 1024, last: int = 65535) -> int:
        """An inside port that no probe has used, if there is one in the range."""
        while True:
            for _ in range(256):
                port = secrets.choice(range(first, last + 1))
                # Programs of the lab have theirs from Linux' ephemeral range.
                usual = first <= 32767 and port in range(32768, 61000)
                if port not in self._used and not usual:
                    self._used.add(port)
                    return port
            self._used.clear()

    def ports(self, count: int, first: int = 1024, last: int = 65535) -> list[int]:
        """As `port`, several."""
        return [self.port(first, last) for _ in range(count)]

    def out(self, protocol: str, source: Endpoint, to: Endpoint, *, ttl: int = 0) -> Sent:
        """A first packet from inside: a datagram, a SYN, a ping."""
        ttl = ttl or self.site.hops
        kind = (ECHO_REQUEST, 0) if protocol == "icmp" else (-1, 0)
        segment = SYN if protocol == "tcp" else 0
        return Sent(
            INSIDE, Packet(protocol, source, to, self.tag(), flags=segment, icmp=kind, ttl=ttl)
        )

    def back(self, protocol: str, source: Endpoint, to: Endpoint) -> Sent:
        """A first packet from outside."""
        sent = self.out(protocol, source, to, ttl=64)
        return Sent(OUTSIDE, sent.packet)

    # --- exchanges ------------------------------------------------------------

    def exchange(self, sends: Sequence[Sent], expected: Iterable[int] = ()) -> list[Outcome]:
        """Send packets in order; what came of each.

        `expected` are the places in `sends` of packets that have to pass: they
        alone are given more time than the order of packets demands, and are
        sent again.
        """
        wanted = {sends[place].packet.tag for place in expected}
        for sent in sends:
            self._outcomes[sent.packet.tag] = Outcome()
        for part in (sends[at : at + _AT_ONCE] for at in range(0, len(sends), _AT_ONCE)):
            self._part(part, wanted)
        return [self._outcomes.pop(sent.packet.tag) for sent in sends]

    def external(self, protocol: str, sends: Sequence[Sent]) -> list[Endpoint | None]:
        """Send from inside; the source that the outside sees of each packet."""
        outcomes = self.exchange(sends, range(len(sends)))
        return [packet.source if (packet := outcome.on(OUTSIDE)) else None for outcome in outcomes]

    def idle(self, until: float) -> None:
        """Let time pass until the monotonic clock says `until`; ARP is answered meanwhile."""
        while (left := until - time.monotonic()) > 0:
            self._listen(left)

    def _part(self, part: Sequence[Sent], wanted: set[int]) -> None:
        for round_ in range(self.site.rounds):
            left = [sent for sent in part if not self._outcomes[sent.packet.tag].passed]
            if self.site.loss == 0 and round_:
                left = [sent for sent in left if sent.packet.tag in wanted]
            if not left:
                return
            for sent in left:
                self.wires[sent.side].send(sent.packet)
            missing = {sent.packet.tag for sent in left}
            if missing <= wanted and self._wait(missing, self.site.hurry_s):
                return
            self._settle()
        # Expected packets have their time; what nobody expects was dropped by now.
        self._wait({sent.packet.tag for sent in part} & wanted, self.site.patience_s)

    def _wait(self, tags: set[int], seconds: float) -> bool:
        """Whether all of `tags` have passed within `seconds`."""
        patience = Patience(seconds)
        while not all(self._outcomes[tag].passed for tag in tags):
            left = patience.left()
            if not left:
                return False
            self._listen(left)
        return True

    def _settle(self) -> None:
        """Wait until whatever was sent before has come out, if it ever does."""
        for _ in range(2):
            pings = {}
            for side, mine, router in (
                (INSIDE, self.site.hosts[0], self.site.inner),
                (OUTSIDE, self.site.remotes[0], self.site.outer),
            ):
                packet = Packet(
                    "icmp",
                    Endpoint(mine, 0),
                    Endpoint(router, 0),
                    self.tag(),
                    icmp=(ECHO_REQUEST, 0),
                )
                pings[side] = packet
                self._outcomes[packet.tag] = Outcome()
            for _ in range(self.site.rounds if self.site.loss else 1):
                for side, packet in pings.items():
                    if not self._outcomes[packet.tag].passed:
                        self.wires[side].send(packet)
                awaited = {p.tag for side, p in pings.items() if self._answers_ping[side]}
                if not self._wait(awaited, self.site.patience_s) and not self.site.loss:
                    for side, packet in pings.items():
                        self._answers_ping[side] &= bool(self._outcomes[packet.tag].passed)
            if not all(self._answers_ping.values()):
                patience = Patience(0.3 + 2 * self.site.round_trip_s)
                while left := patience.left():
                    self._listen(left)
            for packet in pings.values():
                del self._outcomes[packet.tag]

    def _listen(self, seconds: float) -> None:
        ready, _, _ = select.select(list(self.wires.values()), [], [], seconds)
        for side, wire in self.wires.items():
            if wire in ready:
                for packet in wire.receive():
                    self._sort(side, packet)

    def _sort(self, side: str, packet: Packet) -> None:
        """Put a packet that came out to what it is, or answers."""
        if packet.tag in self._outcomes:
            self._outcomes[packet.tag].passed.append(Seen(side, packet))
        elif packet.acknowledged in self._outcomes:
            self._outcomes[packet.acknowledged].answers.append(Seen(side, packet))
