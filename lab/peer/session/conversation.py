"""What both ends of a session have in common: its paths, its stream, its report."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.peer.record import Outcome
from lab.peer.session.machine import Session
from lab.peer.session.path import Timing, What
from lab.peer.session.report import Repair, Report
from lab.peer.session.rider import Rider
from lab.peer.session.terms import Terms
from lab.peer.session.wire import SessionSeal
from lab.peer.traversal.call import AttemptError, Call, Established

PROVE_S = 5.0
"""Within which a new path has to carry frames of the session there and back."""
GIVE_UP_S = 60.0
"""How long a path is looked for before the session is lost."""

Emit = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Held:
    """A path of the session, open until `released`."""

    technique: str
    path: Established
    rider: Rider
    released: asyncio.Event


class Conversation:
    """A session with its paths; `lab.peer.session.keeper` and `follower` are its two ends."""

    leads = False

    def __init__(self, me: str, peer: str, terms: Terms, emit: Emit) -> None:
        self.peer = peer
        self.terms = terms
        self.held: dict[bytes, Held] = {}
        self.session: Session | None = None
        self.report = Report(
            session=terms.session.hex(),
            local=me,
            remote=peer,
            started_at=time.time(),
            keepalive_s=terms.keepalive_s,
            rate=terms.rate,
        )
        self.woken = asyncio.Event()
        """Set when there may be something to do."""
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._strays = 0
        self._outage: Repair | None = None
        self._heard_data_at = self._began
        self._before = (0, self._began)
        """What was missing when the path died, and when a datagram had come last."""
        self._resumes: Repair | None = None
        self._why_dead = ""
        self._beat: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        return self._loop.time()

    @property
    def current(self) -> Held | None:
        """The path that is used."""
        session = self.session
        return self.held.get(session.current) if session and session.current else None

    def open(self, seal: SessionSeal) -> None:
        """The keys are agreed: from here on there is a session."""
        timing = Timing(keepalive_s=self.terms.keepalive_s)
        # Checks of many sessions should not come in step.
        rng = random.Random(seal.session)  # noqa: S311 - jitter
        self.session = Session(seal, leads=self.leads, timing=timing, rng=rng, now=self.now)
        if self.terms.rate:
            self._speak(self.now)

    async def carry(self, call: Call, path: Established) -> None:
        """Let the session have `path` until it is released.

        AttemptError if no frame of the session went there and back.
        """
        session, driver, remote = self.session, path.driver, path.prober.nominated
        if session is None or remote is None:
            raise AttemptError(Outcome.FAILED, "there is no session for the path")
        number = call.attempt
        rider = Rider(session, number, remote, self._noticed)
        held = Held(call.technique, path, rider, asyncio.Event())
        self.held[number] = held
        session.attach(number, driver.now)
        path.prober.rider = rider
        driver.step()
        try:
            if not await driver.until(lambda: session.proven(number), driver.now + PROVE_S):
                reason = f"the path to {remote} carried nothing of the session"
                raise AttemptError(Outcome.TIMED_OUT, reason)
            self.proven(number, held)
            self._noticed()
            await held.released.wait()
        finally:
            path.prober.rider = None
            session.detach(number, driver.now)
            self._strays += rider.strays
            self.held.pop(number, None)
            self._noticed()

    def proven(self, number: bytes, held: Held) -> None:
        """Note that frames of the session went over that path and back."""

    def moved(self, gone: frozenset[str]) -> None:
        """Note that this peer has other addresses; `gone` are those that it had."""
        if self.session is None:
            return
        for number, held in self.held.items():
            if held.path.socket.address in gone:
                self._why_dead = "the address has changed"
                self.session.lose(number, self.now)
        self.session.suspect(self.now)
        self._step()
        self._noticed()

    # --- what happens to the path ---

    def changed(self) -> list[What]:
        """Report what has happened since the last time."""
        session = self.session
        if session is None:
            return []
        found = []
        while session.changes:
            change = session.changes.popleft()
            found.append(change.what)
            held = self.held.get(change.path)
            if change.what is What.DEAD:
                self._died(change.silent_s, held)
            else:
                self._repaired(change.what, held)
        self._listen(session)
        self._step()
        return found

    def _died(self, silent_s: float, held: Held | None) -> None:
        reason = self._why_dead or "no answer"
        self._why_dead = ""
        self._before = (self.session.lost if self.session else 0), self._heard_data_at
        technique = held.technique if held else ""
        self._outage = Repair(self.now - self._began, reason, technique, silent_s)
        self.report.repairs.append(self._outage)
        self.say("dead", technique=technique, reason=reason, silent_s=round(silent_s, 3))

    def _repaired(self, what: What, held: Held | None) -> None:
        technique = held.technique if held else ""
        path = held.path.path.value if held else ""
        more = {"technique": technique, "path": path, "note": held.path.note if held else ""}
        outage, self._outage = self._outage, None
        if self.report.time_to_path_s is None:
            self.report.time_to_path_s = self.now - self._began
            self.report.technique, self.report.path = technique, path
            self.say("path", **more)
        elif outage is not None:
            outage.took_s = self.now - self._began - outage.at_s
            outage.path = path
            outage.by = technique if what is What.UP else ""
            self._resumes = outage
            self.say("repaired" if outage.by else "back", took_s=round(outage.took_s, 3), **more)
        else:
            self.say("switched", **more)  # the lead noticed first

    def _listen(self, session: Session) -> None:
        """Take the datagrams that came; what was missing after an outage is reported.

        What still came over the path that has died ends no outage.
        """
        while session.inbox:
            _, _, path = session.inbox.popleft()
            self._heard_data_at = self.now
            if self._resumes and path == session.current:
                outage, self._resumes = self._resumes, None
                lost, heard_at = self._before
                outage.gap_s, outage.lost = self.now - heard_at, session.lost - lost
                self.say("resumed", gap_s=round(outage.gap_s, 3), lost=outage.lost)

    def say(self, what: str, **more: Any) -> None:
        """Tell whoever watches."""
        at_s = round(self.now - self._began, 3)
        self._emit({"event": "session", "what": what, "at_s": at_s, "peer": self.peer, **more})

    def finish(self) -> Report:
        """The report, complete; nothing is said any more."""
        self.be_silent()
        for held in self.held.values():
            held.released.set()
        report, session = self.report, self.session
        report.lasted_s = self.now - self._began
        if session:
            self._listen(session)
            strays = self._strays + sum(held.rider.strays for held in self.held.values())
            report.longest_gap_s = session.longest_gap_s
            # Without a goodbye nobody knows.
            lost_by_peer = max(0, session.sent - session.peer_received) if session.over else None
            report.counts = {
                "sent": session.sent,
                "unsent": session.unsent,
                "received": session.received,
                "lost": session.lost,
                "lost_by_peer": lost_by_peer,
                "reordered": session.reordered,
                "rejected": session.seal.rejected,
                "strays": strays,
            }
        return report

    # --- the stream, as of a call ---

    def be_silent(self) -> None:
        """Send no more datagrams."""
        if self._beat:
            self._beat.cancel()

    def _speak(self, due: float) -> None:
        if self.session is None or self.session.over:
            return
        # Until there was a path nothing is said; from then on the clock does not stop.
        if self.report.time_to_path_s is not None and self.session.send(bytes(self.terms.size)):
            self._step()
        following = max(due + 1 / self.terms.rate, self.now)
        self._beat = self._loop.call_at(following, self._speak, following)

    def _step(self) -> None:
        for held in tuple(self.held.values()):
            held.path.driver.step()

    def _noticed(self) -> None:
        session = self.session
        if session and (session.changes or session.over or self._resumes or not self.held):
            self.woken.set()
        elif session and session.inbox:
            self._listen(session)
