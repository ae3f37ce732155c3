"""How long a mapping lives, and what refreshes it (RFC 4787 REQ-5, REQ-6; RFC 5382 REQ-5).

A mapping that is looked at is refreshed by the look.  So there is one mapping
for every moment of interest, each looked at once; all of them, for all
protocols, run side by side.

A packet from whom was sent to shows a permission, and with it the mapping.
The mapping alone shows in its port: the host that comes back to it has it
still, or, where inside ports are kept, another host can't have it.

A machine that is busy or pauses does nothing when it is due.  So of each look
it is known how old the mapping was at least and at most, and it says no more
than that.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import Nat, PortPolicy
from lab.verify.flows import Flow, connection, one_way
from lab.verify.probe import INSIDE, Probe
from lab.verify.report import Dimension, Finding
from lab.verify.trial import Trial

LIMIT_S = 300.0
"""How long a mapping is followed at most."""

_BOTH, _OUTBOUND, _INBOUND, _NONE = "both", "outbound", "inbound", "none"
_STEPS = (0.25, 0.5, 0.75)
"""Parts of a lifetime at which a mapping is looked at, to say when it died too early."""
_TALK_S = (0.8, 1.6, 2.4)
"""When both ends of a conversation speak again: Linux believes in one after two seconds."""
_TURNS = 4
"""To see what keeps a mapping, on a machine that was late."""
_Done = TypeVar("_Done")


class _Span(NamedTuple):
    """When something was done: not before, and not after; monotonic seconds."""

    begun: float
    done: float


class _Look(NamedTuple):
    """Whether a mapping was there, at an age between these two, seconds."""

    least: float
    most: float
    alive: bool


@dataclass(slots=True)
class _Life:
    """One lifetime: which looks found the mapping alive."""

    dimension: Dimension
    protocol: str
    declared_s: int
    looks: list[_Look] = field(default_factory=list)


class Clocks:
    """The lifetimes and refresh directions of one router."""

    def __init__(self, probe: Probe, nat: Nat, limit_s: float = LIMIT_S) -> None:
        self.probe = probe
        self.nat = nat
        self.limit_s = limit_s
        self.start = time.monotonic()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._kept: dict[str, bool] = {}

    def findings(self) -> Iterator[Finding]:
        """All of them; takes as long as the longest life, or the limit."""
        lives: list[_Life] = []
        for protocol in ("udp", "tcp"):
            trial = Trial(self.probe, self.nat, protocol)
            if trial.destinations:
                lives += self._of_udp(trial) if protocol == "udp" else self._of_tcp(trial)
        while self._agenda:
            due, _, step = heapq.heappop(self._agenda)
            self.probe.idle(due)
            step()
        yield from map(self._lifetime, lives)
        if self._kept:
            yield self._refresh()

    def _of_udp(self, trial: Trial) -> Iterator[_Life]:
        lifetimes = self.nat.lifetimes
        unanswered = lifetimes.udp_one_way_s or lifetimes.udp_s
        permission = lifetimes.permission_s
        held = partial(self._held, trial)
        # Nobody answers these flows, and whoever may come in shows that they live.
        shown = held if permission and permission < unanswered else self._admitted
        yield self._life(trial, Dimension.LIFETIME, unanswered, shown)
        shown = held if permission and permission < lifetimes.udp_s else self._admitted
        yield self._life(trial, Dimension.TWO_WAY, lifetimes.udp_s, shown, talk=True)
        if permission:
            granted = min(permission, lifetimes.udp_s)
            yield self._life(trial, Dimension.PERMISSION, granted, self._admitted, talk=True)
        self._refreshes(trial, min(unanswered, permission or unanswered))

    def _of_tcp(self, trial: Trial) -> Iterator[_Life]:
        lifetimes = self.nat.lifetimes
        yield self._life(trial, Dimension.TRANSITORY, lifetimes.tcp_transitory_s, self._admitted)
        if self.probe.site.quiet:
            # Where somebody has the address, he resets what he never began.
            yield self._life(
                trial,
                Dimension.ESTABLISHED,
                lifetimes.tcp_established_s,
                self._admitted,
                make=connection,
            )

    def _at(self, when: float, step: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), step))

    # --- lifetimes ------------------------------------------------------------

    def _life(
        self,
        trial: Trial,
        dimension: Dimension,
        declared_s: int,
        shown: Callable[[Flow], bool],
        *,
        make: Callable[[Trial], Flow | None] | None = None,
        talk: bool = False,
    ) -> _Life:
        """Begin flows, each to be looked at once, by `shown`.

        With `talk` both ends speak for a while before they fall silent.
        """
        life = _Life(dimension, trial.protocol, declared_s)
        margin = margin_s(declared_s)
        ages = [declared_s * part for part in _STEPS]
        ages += [declared_s - margin, declared_s + margin]
        for age in sorted({min(age, self.limit_s) for age in ages}):
            flow, made = timed(partial(make or one_way, trial))
            if flow is None:
                life.looks.append(_Look(0.0, 0.0, alive=False))
                break
            look = partial(self._look, life, partial(shown, flow))
            if not talk:
                self._at(made.done + age, partial(look, made))
                continue
            for when in (0.0, *_TALK_S):
                afterwards = partial(self._after, age, look) if when == _TALK_S[-1] else None
                self._at(made.done + when, partial(self._talk, flow, afterwards))
        return life

    def _talk(self, flow: Flow, afterwards: Callable[[_Span], None] | None) -> None:
        """Both ends speak, the inside last."""
        self.probe.exchange([flow.knock()], [0])
        word = self.probe.out("udp", flow.inside, flow.remote)
        _, spoken = timed(lambda: self.probe.exchange([word], [0]))
        if afterwards is not None:
            afterwards(spoken)

    def _after(self, age: float, look: Callable[[_Span], None], spoken: _Span) -> None:
        self._at(spoken.done + age, partial(look, spoken))

    def _look(self, life: _Life, shown: Callable[[], bool], used: _Span) -> None:
        """Look at a mapping that was last used then."""
        alive, looked = timed(shown)
        life.looks.append(_Look(looked.begun - used.done, looked.done - used.begun, alive))

    def _admitted(self, flow: Flow) -> bool:
        """Whether the remote end may come in."""
        (outcome,) = self.probe.exchange([flow.knock()])
        return outcome.on(INSIDE) is not None

    def _held(self, trial: Trial, flow: Flow) -> bool:
        """Whether the mapping has its port still, whoever may come in."""
        trial.begin()
        source, other = flow.inside, self.probe.hosts[-1]
        keeps = self.nat.ports.policy is PortPolicy.PRESERVE and other != source.address
        if keeps:
            source = Endpoint(other, source.port)
        external = trial.open(source, flow.remote)
        same = external is not None and external.port == flow.external.port
        return same is not keeps

    def _lifetime(self, life: _Life) -> Finding:
        alive = [look.least for look in life.looks if look.alive]
        dead = [look.most for look in life.looks if not look.alive]
        last, first = max(alive, default=0.0), min(dead, default=0.0)
        # Alive as long as it is to be, then dead; or not followed to its end.
        ok = bool(alive) and last < life.declared_s and (not dead or first > life.declared_s)
        if not dead:
            observed = f"more than {round(last, 1):g} s"
        elif ok:
            observed = f"{life.declared_s} s"
        elif last < first:
            observed = f"{round(last, 1):g} to {round(first, 1):g} s"
        else:
            observed = "now this, now that"
        return Finding(
            node=self.probe.site.node.name,
            dimension=life.dimension,
            protocol=life.protocol,
            declared=f"{life.declared_s} s",
            observed=observed,
            ok=ok,
        )

    # --- refresh --------------------------------------------------------------

    def _refreshes(self, trial: Trial, life: int) -> None:
        """Two mappings, each kept busy from one side, and looked at when it could not be so old."""
        if life * 1.25 > self.limit_s:
            return
        for side in (_OUTBOUND, _INBOUND):
            self._kept_busy(trial, side, life, _TURNS)

    def _kept_busy(self, trial: Trial, side: str, life: int, turns: int) -> None:
        """Begin a mapping that is kept busy; another one, `turns` in all, if that comes too late.

        Nothing may be sent between a life's end and the look, as it would make a new mapping,
        and the look is too late a life after what kept it.
        """
        flow, made = timed(partial(one_way, trial))
        if flow is None:
            return
        kept = [made]

        def keep() -> None:
            if time.monotonic() - made.begun < life * 0.95:
                kept.append(timed(lambda: self._keep(side, flow))[1])

        def look() -> None:
            alive, looked = timed(lambda: self._admitted(flow))
            revived = side == _OUTBOUND and kept[-1].done - made.begun >= life
            late = looked.done - kept[-1].begun >= life
            if (revived or late) and turns > 1:
                self._kept_busy(trial, side, life, turns - 1)
            else:
                self._kept[side] = alive

        for number in range(1, 4):
            self._at(made.done + life * number * 0.3, keep)
        self._at(made.done + life * 1.25, look)

    def _keep(self, side: str, flow: Flow) -> None:
        if side == _OUTBOUND:
            self.probe.exchange([self.probe.out("udp", flow.inside, flow.remote)], [0])
        else:
            self.probe.exchange([flow.knock()])

    def _refresh(self) -> Finding:
        match self._kept.get(_OUTBOUND, False), self._kept.get(_INBOUND, False):
            case True, True:
                observed = _BOTH
            case True, False:
                observed = _OUTBOUND
            case False, True:
                observed = _INBOUND
            case _:
                observed = _NONE
        declared = str(self.nat.lifetimes.refresh)
        return Finding(
            node=self.probe.site.node.name,
            dimension=Dimension.REFRESH,
            protocol="udp",
            declared=declared,
            observed=observed,
            ok=declared == observed,
        )


def timed(step: Callable[[], _Done]) -> tuple[_Done, _Span]:
    """What a step gives, and when it was done."""
    begun = time.monotonic()
    done = step()
    return done, _Span(begun, time.monotonic())


def margin_s(declared_s: float) -> float:
    """How exactly a lifetime is measured: the kernel's clocks of sets and flows are coarse."""
    return max(0.5, min(3.0, declared_s / 8))
