"""What all attempts of a peer have in common, whoever makes them."""

from __future__ import annotations

from collections.abc import Mapping

from lab.peer.record import Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError
from lab.peer.traversal.lan import NAME as LAN
from lab.peer.traversal.restraint import Pace, Restraint
from lab.peer.traversal.run import Run
from lab.peer.traversal.signalling import Signalling
from lab.peer.traversal.technique import Technique, techniques


class Ground:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        signalling: Signalling,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        self.techniques: Mapping[str, Technique] = techniques()
        self.settings = settings
        """May be replaced: attempts that begin then have the new ones."""
        self.signalling = signalling
        self.nearby: Signalling | None = None
        """How peers on this network are spoken to without a service."""
        self.pace = pace
        self.restraint = Restraint()
        self.kept = Run()
        """What attempts for sessions have in common."""
        self.under_way: dict[bytes, tuple[str, str, str]] = {}
        """Peer, technique and part of each attempt, by its number."""

    @property
    def running(self) -> list[dict[str, str]]:
        """The attempts under way, for the order `status`."""
        return [
            {"attempt": attempt.hex(), "peer": peer, "technique": technique, "part": part}
            for attempt, (peer, technique, part) in self.under_way.items()
        ]

    def technique(self, name: str) -> Technique:
        """The technique of that name; AttemptError if it can't work here."""
        technique = self.techniques.get(name)
        if technique is None:
            reason = f"{self.settings.node} has no technique {name!r}"
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        if reason := technique.applies(self.settings):
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        return technique

    def by(self, technique: str) -> Signalling:
        """What carries the signals of a technique."""
        return self.nearby if technique == LAN and self.nearby else self.signalling
