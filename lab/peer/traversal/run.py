"""What the attempts of one order have in common, at the caller and at the callee.

`lab connect` tries one technique after the other under the same conditions,
which neither of the two can change; so some of what one attempt learns need not
be learned by the next: who is silent (`lab.peer.traversal.silence`), and how
far away the other peer is.  An order for one technique alone shares nothing.

The caller names its run in its offers, by a number that means nothing else, so
that the callee shares among the same attempts.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

from lab.peer.limits import Buckets
from lab.peer.portmap.ask import CLIENTS
from lab.peer.portmap.gateway import gateway
from lab.peer.settings import Settings
from lab.peer.traversal.silence import Silences, Watch

MAX_RUNS = 32
"""Runs of other peers that are known at one time, one for each peer."""
ANNOUNCED_PER_S, ANNOUNCED_AT_ONCE = 0.5, 3.0
"""Runs that one peer may announce."""
_TOKEN_BYTES = 8
_RUN = "run"
EASY = frozenset({"lan", "direct", "upnp", "nat-pmp", "pcp"})
"""Techniques that ask no STUN server: while they wait, others can be asked on their behalf."""


class Run:
    """See the module; `token` is "" for an attempt that shares nothing."""

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.silences = Silences()
        self.rtt: float | None = None
        """The latest round trip to the other peer over the rendezvous service, in seconds."""
        self.key = b""
        """The key by which the rendezvous service knows the other peer; b"" before it was asked."""
        self.carried: dict[Hashable, tuple[str, float]] = {}
        """What a path carried in bit/s, by what such paths have in common, and who found it."""
        self._router = ""
        """Which router was asked in all protocols."""
        self._watch: Watch | None = None
        self._settings: Settings | None = None

    @classmethod
    def of_many(cls) -> Run:
        """One for several techniques."""
        return cls(secrets.token_hex(_TOKEN_BYTES))

    @property
    def said(self) -> dict[str, Any]:
        """What an offer says of it."""
        return {_RUN: self.token} if self.token else {}

    def begin(self, technique: str, settings: Settings) -> None:
        """Get ready for the next attempt.

        With other addresses than before, this is another network: all is
        forgotten.  The first of several techniques has the servers asked that
        the others will want, if it has no use for them itself; and the first
        that asks the router has it asked in the other protocols, too.
        """
        before, self._settings = self._settings, settings
        moved = before is not None and before.addresses != settings.addresses
        if moved:
            self.close()
            # Attempts that are still about keep the old ones, which are of the old network.
            self.silences = Silences()
            self.rtt, self.key, self._router = None, b"", ""
            self.carried.clear()
        if not self.token:
            # Nobody has asked meanwhile: what was silent is to be asked again.
            self.silences.age()
            return
        if self._watch is None:
            self._watch = Watch(settings, self.silences)
            if technique in EASY:
                stun, relays = settings.stun_servers, settings.reachable(settings.relays)
                self._watch.survey((*stun, *relays), stun)
        if technique in CLIENTS and not self._router and (router := gateway()):
            self._router = router
            self._watch.survey_router(router, but=technique)
        self._watch.carry_on()

    def close(self) -> None:
        """The run is over."""
        if self._watch:
            self._watch.close()
            self._watch = None


class Runs:
    """The runs of other peers that attempts are answered of here."""

    def __init__(self) -> None:
        self._runs: OrderedDict[bytes, Run] = OrderedDict()
        self._announced = Buckets(ANNOUNCED_PER_S, ANNOUNCED_AT_ONCE)

    def announced(self, key: bytes, token: str, settings: Settings, now: float) -> None:
        """A peer is about to make several attempts: see who is silent while it does other things.

        Who announces too often is not heeded: its offers will do.
        """
        if self._announced.take(key, now):
            self.of(key, {_RUN: token}).begin("direct", settings)

    def of(self, key: bytes, details: Mapping[str, Any]) -> Run:
        """The run that an offer of that key's peer belongs to; a new one if it names none."""
        token = details.get(_RUN)
        if not isinstance(token, str) or not 0 < len(token) <= 2 * _TOKEN_BYTES:
            return Run()
        run = self._runs.pop(key, None)
        if run is None or run.token != token:
            if run:
                run.close()
            run = Run(token)
        self._runs[key] = run
        while len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)[1].close()
        return run

    def close(self) -> None:
        """All are over."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
