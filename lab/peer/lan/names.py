"""A peer's name on its network: claimed, announced, answered for, and left.

mDNS decides who has it (`naming`), then LLMNR whether somebody else has it who
knows nothing of mDNS (`uniqueness`); a name that is another's gets a number
behind it.  SSDP has no such rule: there, a peer is what it is called in the end.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

from lab.peer.endpoint import Endpoint
from lab.peer.lan import dns, said
from lab.peer.lan.dns import Message, Record
from lab.peer.lan.naming import ANNOUNCE_EACH_S, Naming
from lab.peer.lan.presence import Presence
from lab.peer.lan.said import DOMAIN
from lab.peer.lan.telling import GROUPS, MDNS, Telling
from lab.peer.lan.uniqueness import Uniqueness
from lab.peer.portmap import ssdp

LLMNR = Endpoint("224.0.0.252", 5355)
TARGET = "urn:lab:peer:"
QUIET_FOR_PROBES_S = 0.2
"""What was said to all is not said again for so long, but for who probes (RFC 6762, section 6)."""
_LLMNR_TTL_S = 30
_EARLY_S = 0.002


class Names:
    """The name of the host that takes signals at some `places`.

    `send` sends a datagram from the socket of that way.  `tell` hears of the name
    whenever it is settled (`named`, docs/contract.md), and of neighbours by SSDP
    that come and go (`neighbour`).
    """

    def __init__(
        self,
        wanted: str,
        key: str,
        draw: random.Random,
        send: Callable[[str, bytes, Endpoint], None],
        tell: Callable[..., None],
    ) -> None:
        self.settled = asyncio.Event()
        """Set while the name is this peer's by all protocols."""
        self._wanted, self._key, self._draw = wanted, key, draw
        self._send, self._tell = send, tell
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._places: tuple[Endpoint, ...] = ()
        self._naming: Naming | None = None
        self._uniqueness: Uniqueness | None = None
        self._presence = Presence(TARGET)
        self._telling = Telling(draw, send)
        self._again: float | None = None
        """When to say once more by SSDP that this peer is here."""
        self._here_as = ""
        """The name by which SSDP knows it; "" while there is none."""

    @property
    def name(self) -> str:
        """What it is called, or would be."""
        return self._naming.name if self._naming else self._wanted

    def begin(self, *places: Endpoint) -> None:
        """Claim the name, where nobody is known yet; of each family there is a place at most."""
        self._places = places
        self._presence = Presence(TARGET)
        self._telling.forget()
        self._naming = Naming(self._wanted, self._records, self._draw, self._loop.time())
        self._progress()

    def end(self) -> None:
        """Say goodbye, and nothing more."""
        if self._timer:
            self._timer.cancel()
        self._leave()
        if self._naming and self._naming.owned:
            self._telling.to_all(self._naming.goodbye)
        self._telling.forget()
        self._naming = self._timer = None

    def status(self) -> dict[str, object]:
        """The name by mDNS, whether it is settled, and who else said that it is here."""
        called = f"{self.name}.{DOMAIN}"
        return {"name": called, "settled": self.settled.is_set(), "here": self._presence.here()}

    # --- what comes ---

    def heard(self, way: str, message: Message, source: Endpoint) -> None:
        """A message of mDNS or LLMNR, by the socket that it came to."""
        if self._naming is None:
            return
        now = self._loop.time()
        if way in GROUPS:
            if message.response and source.port != MDNS.port:
                return  # Whoever may not have that port is no responder (section 6).
            for own in self._naming.heard(message, now):
                self._telling.to_all(own, QUIET_FOR_PROBES_S)
            if self._naming.owned and not message.response and not message.claims:
                found = said.reply(self._naming.records, message)
                if found.answers:
                    self._telling.answer(way, message, source, found)
        elif message.response:
            if self._uniqueness:
                self._uniqueness.answered(message, source.address)
        elif way == "llmnr":
            self._asked_by_llmnr(message, source, now)
        self._progress()

    def searched(self, target: str, source: Endpoint) -> None:
        """A search of SSDP."""
        if self._here_as and target == f"{TARGET}{self._here_as}":
            self._send("ssdp", ssdp.found(target, self._location, self._key), source)

    def noticed(self, said: ssdp.Notice | ssdp.Found) -> None:
        """Somebody comes, is here, or goes."""
        if said.usn != self._key:
            before = self._presence.here()
            self._presence.heard(said, self._loop.time())
            self._changed(before)
            self._wait()

    def _changed(self, before: dict[str, str]) -> None:
        after = self._presence.here()
        for name in after.keys() - before.keys():
            self._tell("neighbour", name=name, here=True)
        for name in before.keys() - after.keys():
            self._tell("neighbour", name=name, here=False)

    def _asked_by_llmnr(self, message: Message, source: Endpoint, now: float) -> None:
        asked = any(name == self.name.lower() for name, _ in message.questions)
        if not asked or source in self._places:
            return  # Its own question comes back to this host, too.
        unsure = not self.settled.is_set()
        if message.conflict and self._uniqueness:
            self._uniqueness.doubted(now)
            return
        own = () if unsure else said.host(self.name, self._places, self._key)
        answers = tuple(
            replace(it, ttl_s=_LLMNR_TTL_S, unique=False)
            for it in said.reply(own, message).answers
            if it.type != dns.NSEC
        )
        # A response repeats the question (RFC 4795, section 2.1.1), and is empty if the name is
        # this host's and has no such record (section 2.3).
        answer = Message(message.number, True, message.questions, answers, tentative=unsure)
        self._send("llmnr", dns.encode(answer, authoritative=False), source)

    # --- what goes out ---

    def _records(self, name: str) -> tuple[Record, ...]:
        return said.everything(name, self._places, self._key)

    @property
    def _location(self) -> str:
        return f"http://{self._places[0]}/"

    def _tick(self) -> None:
        self._timer = None
        naming, now = self._naming, self._loop.time()
        if naming is None:
            return
        for own in naming.tick(_not_before(naming.due, now)):
            self._telling.to_all(own)
        if self._uniqueness:
            for asked in self._uniqueness.tick(_not_before(self._uniqueness.due, now)):
                self._send("signal", dns.encode(asked), LLMNR)
        if self._again is not None and now >= self._again:
            self._alive(now, ssdp.MAX_AGE_S * self._draw.uniform(0.25, 0.5))
        before = self._presence.here()
        self._presence.forget(now)
        self._changed(before)
        self._progress()

    def _progress(self) -> None:
        """Do what follows from what the machines have come to."""
        naming, now = self._naming, self._loop.time()
        if naming is None:
            return
        check = self._uniqueness
        if check and check.lost:
            for last in naming.contested(now):
                self._telling.to_all(last)
        if not naming.owned:
            self._uniqueness = None
        elif check is None or check.name != naming.name:
            self._uniqueness = Uniqueness(naming.name, self._places[0].address, self._draw, now)
        verified = self._uniqueness is not None and self._uniqueness.verified
        if verified and not self.settled.is_set():
            self.settled.set()
            self._here_as = naming.name
            self._alive(now, ANNOUNCE_EACH_S)
            self._tell("named", name=f"{naming.name}.{DOMAIN}")
        elif not verified:
            self._leave()
        self._wait()

    def _alive(self, now: float, again_s: float) -> None:
        self._again = now + again_s
        target = f"{TARGET}{self._here_as}"
        self._send("signal", ssdp.alive(target, self._location, self._key), ssdp.GROUP)

    def _leave(self) -> None:
        self.settled.clear()
        if self._here_as:
            self._send("signal", ssdp.byebye(f"{TARGET}{self._here_as}", self._key), ssdp.GROUP)
        self._here_as, self._again = "", None

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        machines = (self._naming, self._uniqueness, self._presence)
        times = [self._again, *(one.due for one in machines if one)]
        due = min((at for at in times if at is not None), default=None)
        self._timer = None if due is None else self._loop.call_at(due, self._tick)


def questions(name: str) -> Iterator[tuple[bytes, Endpoint]]:
    """What is asked to find the peer of that name, and whom."""
    number = secrets.randbits(16)
    local = Message(number, questions=((f"{name}.{DOMAIN}", dns.TXT),))
    for group in GROUPS.values():
        yield dns.encode(local), group
    yield dns.encode(Message(number, questions=((name, dns.TXT),))), LLMNR
    yield ssdp.search(f"{TARGET}{name}"), ssdp.GROUP


def _not_before(due: float | None, now: float) -> float:
    """`now`, or `due` if it all but is: a timer may come a moment before its time."""
    return due if due is not None and due - now < _EARLY_S else now
