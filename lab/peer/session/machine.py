"""A session as a state machine: paths come and go, datagrams are numbered once.

One end leads: it has paths found, and says which one is used.  On every path
both ends ask CHECK now and then, which keeps the mappings of NATs on the way
alive (RFC 8445, section 11) and shows that the other end is there and agrees
to be sent to (RFC 7675).  A check without an answer is asked again soon; after
so many in a row the path is dead, and nothing but checks is sent on it.  Where
datagrams came steadily and then cease, a check is due at once.

While there is no path, datagrams are numbered and lost, as on any network; the
other end counts them by the gap.  A dead path that answers again is as good as
before, if no other one has taken its place.
"""

from __future__ import annotations

import random
from collections import deque

from lab.peer.session.path import Change, PathState, Timing, What
from lab.peer.session.wire import Frame, Kind, SessionSeal

MAX_ASKED = 32
MAX_INBOX = 256


DEAD_CHECK_S = 1.0
"""How often a dead path is asked whether it is back."""
QUIET_S = 0.5
"""Silence that is worth a question, at least, where datagrams came steadily."""
QUIET_GAPS = 8


class Session:
    """One end.  Frames go in and out by path; `changes` and `inbox` tell what happened."""

    def __init__(
        self, seal: SessionSeal, *, leads: bool, timing: Timing, rng: random.Random, now: float
    ) -> None:
        self.seal = seal
        self.current: bytes | None = None
        """The number of the path that is used; None while there is none."""
        self.changes: deque[Change] = deque()
        """Whoever drives the session empties it."""
        self.inbox: deque[tuple[int, bytes, bytes]] = deque(maxlen=MAX_INBOX)
        """Datagrams that came: their numbers, what was in them, and the path."""
        self.sent = 0
        """Datagrams that were numbered."""
        self.unsent = 0
        """Of them, those for which there was no path."""
        self.received = 0
        self.reordered = 0
        self.highest = 0
        self.longest_gap_s = 0.0
        """Between two datagrams that came one after the other."""
        self.peer_sent = 0
        """As the other end said last."""
        self.peer_received = 0
        self.over = False
        """The other end has said goodbye."""
        self.answered_bye = False
        self._leads = leads
        self._timing = timing
        self._rng = rng
        self._paths: dict[bytes, PathState] = {}
        self._wanted: bytes | None = None
        self._wanted_by = 0
        self._heard_at = now
        self._data_at: float | None = None
        self._last_used: bytes | None = None
        self._silent_since: float | None = None

    @property
    def lost(self) -> int:
        """Datagrams of the other end that did not come, as far as can be known."""
        return max(self.highest, self.peer_sent if self.over else 0) - self.received

    @property
    def paths(self) -> tuple[bytes, ...]:
        return tuple(self._paths)

    def proven(self, path: bytes) -> bool:
        """Whether frames went over that path and back."""
        return path in self._paths and self._paths[path].proven

    # --- what the driver wants ---

    def attach(self, path: bytes, now: float) -> None:
        """An attempt has found a path: prove it, and use it if there is no other."""
        self._paths[path] = PathState(path, heard_at=now, next_at=now)

    def detach(self, path: bytes, now: float) -> None:
        """That path is no more."""
        if self._paths.pop(path, None) is not None:
            self._gone(path, now)

    def lose(self, path: bytes, now: float) -> None:
        """That path can't work any more: its end here has another address."""
        found = self._paths.get(path)
        if found and found.alive:
            found.alive = False
            found.next_at = now + DEAD_CHECK_S
            self._gone(path, now)

    def prefer(self, path: bytes, now: float) -> None:
        """Use that path from now on, if it is alive; for the end that leads."""
        self._wanted = path
        self._choose(now)

    def suspect(self, now: float) -> None:
        """Ask at once whether the path that is used is there."""
        found = self._paths.get(self.current or b"")
        if found and not found.unanswered:
            found.next_at = now

    def send(self, payload: bytes) -> bool:
        """Send a datagram; False if there is no path, and so it is lost."""
        self.sent += 1
        path = self._paths.get(self.current or b"")
        if path is None:
            self.unsent += 1
            return False
        path.out.append(self.seal.data(self.sent, payload))
        return True

    def bye(self) -> None:
        """Say that the session is over, on the path there is."""
        if path := self._paths.get(self.current or b""):
            self._say(path, Kind.BYE)

    # --- frames and time ---

    def receive(self, path: bytes, data: bytes, now: float) -> bool:
        """Take a frame that came on that path; whether it was one of this session."""
        found = self._paths.get(path)
        frame = self.seal.open(data) if found else None
        if found is None or frame is None:
            return False
        if frame.kind is not Kind.DATA and frame.path != path:
            self.seal.rejected += 1  # somebody carried it here from another path
            return False
        found.heard_at = self._heard_at = now
        match frame.kind:
            case Kind.DATA:
                self._on_data(found, frame, now)
            case Kind.CHECK:
                self._on_check(found, frame, now)
            case Kind.CHECKED:
                self._on_checked(found, frame, now)
            case Kind.BYE:
                self._counts(frame)
                self.over = True
                self._say(found, Kind.FAREWELL, frame.sequence)
            case Kind.FAREWELL:
                self._counts(frame)
                self.over = self.answered_bye = True
        return True

    def tick(self, path: bytes, now: float) -> None:
        """Do what is due on that path."""
        found = self._paths.get(path)
        if found is None:
            return
        if found.quiet_at is not None and now >= found.quiet_at:
            found.quiet_at = None
            if found.alive and not found.unanswered:
                found.next_at = now
        if found.next_at is not None and now >= found.next_at:
            self._ask(found, now)

    def deadline(self, path: bytes) -> float | None:
        """When `tick` has something to do on that path."""
        found = self._paths.get(path)
        due = (found.next_at, found.quiet_at) if found else ()
        return min((when for when in due if when is not None), default=None)

    def take(self, path: bytes) -> list[bytes]:
        """The frames to send on that path now."""
        found = self._paths.get(path)
        if found is None:
            return []
        out, found.out = found.out, []
        return out

    # --- what is behind it ---

    def _ask(self, path: PathState, now: float) -> None:
        if path.alive and path.unanswered >= self._timing.checks:
            path.alive = False
            self._gone(path.number, now)
        sequence = self._say(path, Kind.CHECK)
        path.asked[sequence] = now
        while len(path.asked) > MAX_ASKED:
            path.asked.popitem(last=False)
        path.unanswered += 1
        again = max(self._timing.again_s, 2 * path.round_trip)
        path.next_at = now + (again if path.alive or not path.proven else DEAD_CHECK_S)

    def _on_data(self, path: PathState, frame: Frame, now: float) -> None:
        self.received += 1
        if frame.number < self.highest:
            self.reordered += 1
        self.highest = max(self.highest, frame.number)
        if self._data_at is not None:
            self.longest_gap_s = max(self.longest_gap_s, now - self._data_at)
        self._data_at = now
        if path.data_at is not None:
            gap = now - path.data_at
            path.gap = gap if path.gap is None else path.gap + (gap - path.gap) / 8
            if self._timing.keepalive_s:
                path.quiet_at = now + max(QUIET_S, QUIET_GAPS * path.gap)
        path.data_at = now
        self.inbox.append((frame.number, frame.payload, path.number))

    def _on_check(self, path: PathState, frame: Frame, now: float) -> None:
        self._counts(frame)
        self._say(path, Kind.CHECKED, frame.sequence)
        if not path.proven:
            path.next_at = now  # as triggered checks (RFC 8445, section 7.3.1.4)
        if frame.use and not self._leads and frame.sequence > self._wanted_by:
            self._wanted, self._wanted_by = path.number, frame.sequence
            self._choose(now)

    def _on_checked(self, path: PathState, frame: Frame, now: float) -> None:
        self._counts(frame)
        asked_at = path.asked.pop(frame.echo, None)
        if asked_at is None:
            return
        took = now - asked_at
        path.round_trip = path.round_trip + (took - path.round_trip) / 8 if path.proven else took
        path.unanswered = 0
        path.asked.clear()
        path.next_at = self._later(now)
        revived = not path.alive
        path.proven = path.alive = True
        if revived:
            if self._leads and self.current is None:
                self._wanted = path.number
            self._choose(now)

    def _choose(self, now: float) -> None:
        """Use the path that the lead wants, once it is alive."""
        path = self._paths.get(self._wanted or b"")
        if path is None or not path.alive or self.current == path.number:
            return
        # The path that went away and is there again carries on; another one takes over.
        back = self._last_used == path.number
        self.current = self._last_used = path.number
        silent = now - (self._silent_since if self._silent_since is not None else now)
        self._silent_since = None
        self.changes.append(Change(What.BACK if back else What.UP, path.number, now, silent))
        if self._leads:
            self._ask(path, now)

    def _gone(self, path: bytes, now: float) -> None:
        """The path is of no use any more."""
        if self.current != path:
            return
        self.current = None
        self._silent_since = self._heard_at
        self.changes.append(Change(What.DEAD, path, now, now - self._heard_at))
        if self._leads:
            alive = next((p.number for p in self._paths.values() if p.alive), None)
            self._wanted = alive or self._wanted
            self._choose(now)

    def _later(self, now: float) -> float | None:
        if not self._timing.keepalive_s:
            return None
        return now + self._timing.keepalive_s * self._rng.uniform(0.8, 1.0)

    def _counts(self, frame: Frame) -> None:
        self.peer_sent = max(self.peer_sent, frame.sent)
        self.peer_received = max(self.peer_received, frame.received)

    def _say(self, path: PathState, kind: Kind, echo: int = 0) -> int:
        use = self._leads and self.current == path.number
        sequence, frame = self.seal.word(
            kind, path.number, use=use, echo=echo, sent=self.sent, received=self.received
        )
        path.out.append(frame)
        return sequence
