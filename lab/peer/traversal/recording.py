"""Records of attempts: what an attempt was, in the words of docs/contract.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.peer.record import Record, Tally, Try
from lab.peer.traversal.call import AttemptError, Call, Established
from lab.peer.traversal.measure import jitter
from lab.peer.traversal.wording import seconds


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who connects to whom how, and since when."""

    technique: str
    local: str
    remote: str
    wall: float = field(default_factory=time.time)
    clock: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def success(
        self,
        call: Call,
        path: Established,
        *,
        rtt_before: float | None = None,
        goodput_bps: float | None = None,
        goodput_by: str = "",
    ) -> Record:
        """The record of an attempt that found a path."""
        found_at = path.prober.first_round_trip_at
        tally = call.tally
        return Record(
            technique=self.technique,
            outcome=path.outcome,
            reason=path.note + _waited(call),
            local=self.local,
            remote=self.remote,
            path=path.path,
            local_candidate=path.local,
            remote_candidate=path.remote,
            started_at=self.wall,
            time_to_path_s=found_at - self.clock if found_at is not None else None,
            rtt_before_s=rtt_before,
            rtt_after_s=min(path.prober.samples, default=None),
            jitter_s=jitter(path.prober.samples),
            goodput_bps=goodput_bps,
            goodput_by=goodput_by,
            transport=path.driver.transport,
            socket=path.socket,
            tries=tuple(call.tries),
            packets=dict(tally.packets),
            octets=dict(tally.octets),
            relayed_packets=sum(tally.packets[kind] for kind in path.carried),
            relayed_octets=sum(tally.octets[kind] for kind in path.carried),
        )

    def failure(
        self,
        error: AttemptError,
        tally: Tally,
        *,
        rtt_before: float | None = None,
        tries: Sequence[Try] = (),
    ) -> Record:
        """The record of an attempt that found none."""
        return Record(
            technique=self.technique,
            outcome=error.outcome,
            reason=error.reason,
            local=self.local,
            remote=self.remote,
            started_at=self.wall,
            rtt_before_s=rtt_before,
            tries=tuple(tries),
            packets=dict(tally.packets),
            octets=dict(tally.octets),
        )


def _waited(call: Call) -> str:
    """How long the other peer could not be called, for the end of a sentence."""
    if not call.mailbox.away_s:
        return ""
    away = seconds(call.mailbox.away_s)
    return f"; {call.peer}'s connection to the rendezvous service was dead for {away} before"
