"""Who said by SSDP that it is here, until it says goodbye or nothing for too long; without I/O."""

from __future__ import annotations

from dataclasses import dataclass

from lab.peer.portmap.ssdp import Found, Notice

MOST = 512
LONGEST_S = 86_400
"""Whoever would be remembered for longer is, for that long."""


@dataclass(frozen=True, slots=True)
class Present:
    """A device, by what it said last."""

    target: str
    location: str
    until: float


class Presence:
    """The devices of one network whose target begins with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._here: dict[str, Present] = {}

    @property
    def due(self) -> float | None:
        """When the next of them is to be forgotten; None if none is known."""
        return min((one.until for one in self._here.values()), default=None)

    def heard(self, said: Notice | Found, now: float) -> None:
        """Take an announcement, a goodbye, or the answer to a search.

        A goodbye is believed without proof, as all of SSDP: who it names is
        asked for again before anybody is called.
        """
        if isinstance(said, Notice) and not said.alive:
            self._here.pop(said.usn, None)
            return
        room = said.usn in self._here or len(self._here) < MOST
        if room and said.target.startswith(self._prefix):
            until = now + min(said.max_age_s, LONGEST_S)
            self._here[said.usn] = Present(said.target, said.location, until)

    def forget(self, now: float) -> None:
        """Leave out those that were not heard of for as long as they said."""
        self._here = {usn: one for usn, one in self._here.items() if one.until > now}

    def here(self) -> dict[str, str]:
        """Where each is, by its name: the target without the prefix."""
        return {one.target[len(self._prefix) :]: one.location for one in self._here.values()}
