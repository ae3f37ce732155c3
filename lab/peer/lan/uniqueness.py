"""Whether a name is nobody else's by LLMNR (RFC 4795, section 4), as a state machine without I/O.

The name is asked for three times.  An answer says that it is another's; a
tentative one that another asks as well, and then the smaller address has it.
"""

from __future__ import annotations

import ipaddress
import random

from lab.peer.lan.dns import ANY, Message

TIMEOUT_S = 0.1
"""LLMNR_TIMEOUT on networks of IEEE 802 (section 7)."""
JITTER_S = 0.1
ASKED = 3


class Uniqueness:
    """One host's check of one name; `draw` is its own stream of chance."""

    def __init__(self, name: str, address: str, draw: random.Random, now: float) -> None:
        self.name = name
        self.verified = False
        self.lost = False
        """Whether the name is another's."""
        self.due: float | None = None
        """When `tick` is to be called; None if there is nothing to wait for."""
        self._address = address
        self._draw = draw
        self._begin(now)

    def tick(self, now: float) -> list[Message]:
        """What is to be asked at `now`."""
        if self.due is None or now < self.due:
            return []
        if self._sent == ASKED:
            self.verified, self.due = True, None
            return []
        self._sent += 1
        self.due = now + TIMEOUT_S
        return [Message(self._number, questions=((self.name, ANY),))]

    def answered(self, response: Message, source: str) -> None:
        """Take an answer to such a question, from the address `source`."""
        asked = any(name == self.name.lower() for name, _ in response.questions)
        if self.verified or not asked or source == self._address:
            return
        if response.number != self._number:
            return
        mine, theirs = map(ipaddress.ip_address, (self._address, source))
        if not response.tentative or int(theirs) < int(mine):
            self.lost, self.due = True, None

    def doubted(self, now: float) -> None:
        """Somebody heard two answer (section 4.2): ask again."""
        if self.verified:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self.verified, self._sent = False, 0
        self._number = self._draw.randrange(1, 1 << 16)
        self.due = now + self._draw.uniform(0, JITTER_S)
