"""Who has a name on a network (RFC 6762, sections 8 and 9), as a state machine without I/O.

Time is given from outside: `tick` when `due` has come, `heard` for each message
to the group.  Both answer with messages to the group.  A name is probed for
three times; if nobody objects it is announced and from then on defended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from lab.peer.lan.dns import ANY, IN, Message, Record
from lab.peer.lan.said import BROWSED, DOMAIN

DELAY_S, PROBES, PROBE_EACH_S = 0.25, 3, 0.25
ANNOUNCEMENTS, ANNOUNCE_EACH_S = 2, 1.0
BEATEN_S = 1.0
"""How long to wait after a probe of another that goes before (section 8.2)."""
MANY, WITHIN_S, RESTRAINT_S = 15, 10.0, 5.0
"""After so many conflicts within that time, how long to wait before each claim (section 8.1)."""
_LONGEST = 63


class Naming:
    """One host's claim to a name; `draw` is its own stream of chance.

    `records` gives what the host has to say under a name.  What of it is unique, it
    claims, and it gives up all of it if any is another's.
    """

    def __init__(
        self,
        wanted: str,
        records: Callable[[str], tuple[Record, ...]],
        draw: random.Random,
        now: float,
    ) -> None:
        self.name = wanted
        """What it has, or would have."""
        self.owned = False
        """Whether nobody objected to it."""
        self.due: float | None = None
        """When `tick` is to be called; None if there is nothing to wait for."""
        self._wanted = wanted
        self._records = records
        self._draw = draw
        self._number = 1
        self._sent = 0
        self._conflicts: list[float] = []
        self._begin(now + draw.uniform(0, DELAY_S))

    @property
    def records(self) -> tuple[Record, ...]:
        """What this host says, or would say, under its name."""
        return self._records(f"{self.name}.{DOMAIN}")

    @property
    def response(self) -> Message:
        """The whole of it, as an answer to everybody."""
        return Message(response=True, answers=self.records)

    @property
    def goodbye(self) -> Message:
        """That it is so no more (section 10.1); that there are such services others say, too."""
        gone = tuple(replace(it, ttl_s=0) for it in self.records if it.name != BROWSED)
        return Message(response=True, answers=gone)

    def tick(self, now: float) -> list[Message]:
        """What is to be said at `now`."""
        if self.due is None or now < self.due:
            return []
        if self.owned:
            return [self._announce(now)]
        if self._sent < PROBES:
            self._sent += 1
            self.due = now + PROBE_EACH_S
            own = self._unique()
            # Claims are made without the bit by which others forget what they know (10.2).
            claims = tuple(
                replace(record, unique=False) for records in own.values() for record in records
            )
            return [Message(questions=tuple((name, ANY) for name in own), claims=claims)]
        self.owned, self._sent = True, 0
        return [self._announce(now)]

    def heard(self, message: Message, now: float) -> list[Message]:
        """What is to be said to a message from this network; its own are no conflict."""
        said = message.answers if message.response else message.claims
        for name, own in self._unique().items():
            theirs = [
                record for record in said if record.name == name.lower() and not record.goodbye
            ]
            if theirs and not message.response:
                # Of several names one decides, the same for all: else both might yield.
                return self._probed(own, theirs, now)
            if theirs and self._contradicted(own, theirs, now):
                break
        return []

    def _probed(self, own: list[Record], theirs: list[Record], now: float) -> list[Message]:
        if self.owned:
            return [] if order(theirs) == order(own) else [self.response]
        if order(theirs) > order(own):
            self._begin(now + BEATEN_S)
        return []

    def _contradicted(self, own: list[Record], theirs: list[Record], now: float) -> bool:
        ours = {(record.type, record.data) for record in own}
        others = [record for record in theirs if (record.type, record.data) not in ours]
        if not self.owned:
            if others:
                self._rename(now)
            return bool(others)
        if {record.type for record in others} & {record.type for record in own}:
            # Whose it is, probes will tell (section 9).
            self._conflict(now)
            return True
        return False

    def _unique(self) -> dict[str, list[Record]]:
        """What nobody else may have, by name."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            if record.unique:
                found.setdefault(record.name, []).append(record)
        return found

    def contested(self, now: float) -> list[Message]:
        """What is to be said when another protocol found the name to be another's."""
        last = [self.goodbye] if self.owned else []
        self._rename(now)
        return last

    def _announce(self, now: float) -> Message:
        self._sent += 1
        self.due = now + ANNOUNCE_EACH_S if self._sent < ANNOUNCEMENTS else None
        return self.response

    def _rename(self, now: float) -> None:
        self._number += 1
        end = f"-{self._number}"
        self.name = f"{self._wanted[: _LONGEST - len(end)]}{end}"
        self._conflict(now)

    def _conflict(self, now: float) -> None:
        self._conflicts = [at for at in self._conflicts if now - at < WITHIN_S] + [now]
        self._begin(now + (RESTRAINT_S if len(self._conflicts) >= MANY else 0.0))

    def _begin(self, at: float) -> None:
        self.owned, self._sent, self.due = False, 0, at


def order(records: Iterable[Record]) -> list[tuple[int, int, bytes]]:
    """What decides between probes for one name: the later in this order has it (section 8.2)."""
    return sorted((IN, record.type, record.data) for record in records)
