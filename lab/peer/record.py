"""The record in which every connection attempt ends (docs/contract.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lab.peer.endpoint import Endpoint

DATA = "data"
"""The kind of packet (`Tally`) that measures what a path carries."""


def plain(text: str) -> str:
    """`text` without what a terminal would obey: other peers and servers wrote parts of it."""
    return "".join(char if char.isprintable() else "?" for char in text)


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCESS = "success"
    REVERSED = "reversed"
    """There is a path, and it was the other peer that opened it, because it was asked to."""
    NO_STREAM = "no-stream"
    """The other peer is registered, but said nothing over the rendezvous service."""
    TIMED_OUT = "timed-out"
    """Everything was sent, and too little came back in time."""
    REFUSED = "refused"
    """The other peer or a server said no."""
    BLOCKED = "blocked"
    """What the technique needs does not leave this network: UDP, say."""
    UNREACHABLE = "unreachable"
    """The other peer is not registered, an offer to it is lost, or a server cannot be reached."""
    UNSUPPORTED = "unsupported"
    """This peer, or the other, lacks the technique or a service that it needs."""
    CANCELLED = "cancelled"
    FAILED = "failed"
    """A fault of the program; the reason says which."""

    @property
    def connected(self) -> bool:
        """Whether there was a path."""
        return self in (Outcome.SUCCESS, Outcome.REVERSED)


class TryOutcome(StrEnum):
    """How one try within an attempt ended: a connect, say, of which TCP punching makes many."""

    SUCCESS = "success"
    REFUSED = "refused"
    """A reset, or an ICMP error that means the same."""
    TIMED_OUT = "timed-out"
    BLOCKED = "blocked"
    """It did not leave this network."""
    CANCELLED = "cancelled"
    """It was under way when another one succeeded, or when time was up."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Try:
    """One try; times in seconds, `at_s` since the attempt began."""

    outcome: TryOutcome
    at_s: float
    took_s: float
    remote: Endpoint
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.value,
            "at_s": round(self.at_s, 6),
            "took_s": round(self.took_s, 6),
            "remote": str(self.remote),
            "reason": plain(self.reason),
        }


class PathKind(StrEnum):
    """What carries the packets of a path."""

    DIRECT = "direct"
    RELAYED = "relayed"


class CandidateKind(StrEnum):
    """Where an endpoint is known from (RFC 8445, section 4)."""

    HOST = "host"
    SERVER_REFLEXIVE = "server-reflexive"
    PEER_REFLEXIVE = "peer-reflexive"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint at which a peer may be reachable."""

    kind: CandidateKind
    endpoint: Endpoint

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind.value, "endpoint": str(self.endpoint)}

    @classmethod
    def from_json(cls, data: object) -> Candidate:
        """The candidate that `to_json` wrote; ValueError if it is not one."""
        if not isinstance(data, dict):
            raise ValueError("a candidate is an object")  # noqa: TRY004 - one error for bad input
        kind, endpoint = data.get("kind"), data.get("endpoint")
        if not isinstance(kind, str) or not isinstance(endpoint, str):
            raise ValueError("a candidate has kind and endpoint")  # noqa: TRY004 - as above
        return cls(CandidateKind(kind), Endpoint.parse(endpoint))


@dataclass(slots=True)
class Tally:
    """Packets and bytes of one attempt at this peer, both directions, by kind.

    A packet is a UDP datagram, or a frame where TCP carries it; bytes are
    payload, without IP, UDP and TCP headers.
    """

    packets: Counter[str] = field(default_factory=Counter)
    octets: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, size: int) -> None:
        self.packets[kind] += 1
        self.octets[kind] += size


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One attempt by one technique; times in seconds, None where there is nothing to say."""

    technique: str
    outcome: Outcome
    reason: str
    local: str
    remote: str
    started_at: float
    """Seconds since the epoch."""
    path: PathKind | None = None
    local_candidate: Candidate | None = None
    remote_candidate: Candidate | None = None
    time_to_path_s: float | None = None
    """From the order to the first authenticated round trip."""
    rtt_before_s: float | None = None
    """Round trip to the peer over the rendezvous service."""
    rtt_after_s: float | None = None
    """Round trip over the new path."""
    jitter_s: float | None = None
    """How much successive round trips over the new path differ, on average."""
    goodput_bps: float | None = None
    """What the path carried towards the other peer, in bits of payload per second."""
    goodput_by: str = ""
    """The technique that measured it, on the same path; "" for this one."""
    transport: str = ""
    """`udp` or `tcp`: what carries the path at this peer."""
    cut_short: bool = False
    """Whether less time was given than is enough, and was up while the technique was at work."""
    socket: Endpoint | None = None
    """This peer's end of the path, as its own system names it."""
    tries: Sequence[Try] = ()
    packets: Mapping[str, int] = field(default_factory=dict)
    octets: Mapping[str, int] = field(default_factory=dict)
    relayed_packets: int = 0
    """Of the above, what a relay carried."""
    relayed_octets: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record as docs/contract.md defines it."""
        return {
            "technique": self.technique,
            "outcome": self.outcome.value,
            "reason": plain(self.reason),
            "local": self.local,
            "remote": self.remote,
            "path": self.path.value if self.path else None,
            "local_candidate": self.local_candidate.to_json() if self.local_candidate else None,
            "remote_candidate": self.remote_candidate.to_json() if self.remote_candidate else None,
            "started_at": self.started_at,
            "time_to_path_s": self.time_to_path_s,
            "rtt_before_s": self.rtt_before_s,
            "rtt_after_s": self.rtt_after_s,
            "jitter_s": self.jitter_s,
            "goodput_bps": self.goodput_bps,
            "goodput_by": self.goodput_by or None,
            "transport": self.transport or None,
            "socket": str(self.socket) if self.socket else None,
            "cut_short": self.cut_short,
            "tries": [each.to_json() for each in self.tries],
            "packets": dict(sorted(self.packets.items())),
            "bytes": dict(sorted(self.octets.items())),
            "overhead": {"packets": _overhead(self.packets), "bytes": _overhead(self.octets)},
            "relayed": {"packets": self.relayed_packets, "bytes": self.relayed_octets},
        }


def _overhead(counts: Mapping[str, int]) -> int:
    """All that was not the payload for which the path was made."""
    return sum(count for kind, count in counts.items() if kind != DATA)
