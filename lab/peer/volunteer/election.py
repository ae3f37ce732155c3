"""Which peer may be a relay for others: the conditions for supernodes.

A peer is elected if it has a public address, UDP and TCP from outside reach it,
its line is fast, it is capable, and it has run for long: all of them, as
FastTrack and Skype chose theirs.  Each peer measures itself, since nobody else
can; what it claims wrongly costs a caller one try.

An elected peer stays one until it has fallen short of the same conditions twice
in a row, with less asked of what varies, so that a line at the threshold does
not make and unmake a relay every minute.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

CONDITIONS = ("public", "reachable", "fast", "capable", "lasting")
"""The names of the conditions, as they are registered."""
PORT = 33033
"""Where volunteers listen; the port at which Skype's first supernodes did."""
KEPT_SHARE = 0.75
"""Of a threshold: what is enough to stay elected."""
MISSES = 2
"""Measurements in a row that have to fall short before a peer steps down."""


class TermsError(ValueError):
    """The text is no list of terms."""


@dataclass(frozen=True, slots=True)
class Terms:
    """From what on a peer is fit to be a relay."""

    mbps: float = 1.0
    """Of the slower direction of its line, in Mbit/s."""
    packets: float = 2000.0
    """That it can pass on in a second."""
    after_s: float = 600.0
    """How long it has to have run."""
    port: int = PORT

    @classmethod
    def parse(cls, text: str) -> Terms:
        """The terms in `mbps=2,after_s=60`; `yes` for the usual ones. TermsError if it is none."""
        if text == "yes":
            return cls()
        known = {field.name for field in fields(cls)}
        found: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name not in known:
                raise TermsError(f"{name[:40]!r} is none of {', '.join(sorted(known))}")
            try:
                found[name] = float(value)
            except ValueError:
                raise TermsError(f"{name} is a number, not {value[:40]!r}") from None
            if not 0 <= found[name] < float("inf"):
                raise TermsError(f"{name} can't be {value[:40]}")
        port = found.pop("port", float(PORT))
        if not (port.is_integer() and 1024 <= port <= 65535):
            raise TermsError(f"{port:g} is no port from 1024 to 65535")
        return cls(**found, port=int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a peer found out about itself."""

    public: bool
    """Whether others see it by a public address of its own."""
    udp: bool
    tcp: bool
    """Whether what it had not asked for came to its port."""
    line_bps: float
    packets_per_s: float
    uptime_s: float

    def meets(self, terms: Terms, share: float = 1.0) -> dict[str, bool]:
        """Each condition, and whether it holds if that share of each threshold is enough."""
        return {
            "public": self.public,
            "reachable": self.udp and self.tcp,
            "fast": self.line_bps >= terms.mbps * 1e6 * share,
            "capable": self.packets_per_s >= terms.packets * share,
            "lasting": self.uptime_s >= terms.after_s,
        }


class Election:
    """One peer's standing over time."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.elected = False
        self.lacks: tuple[str, ...] = CONDITIONS
        """Which conditions did not hold when it was measured last."""
        self._misses = 0

    def hear(self, measured: Measured) -> bool:
        """Take a measurement; whether the peer is elected now."""
        met = measured.meets(self.terms, KEPT_SHARE if self.elected else 1.0)
        self.lacks = tuple(name for name in CONDITIONS if not met[name])
        self._misses = self._misses + 1 if self.lacks else 0
        self.elected = self._misses < MISSES if self.elected else not self.lacks
        return self.elected
