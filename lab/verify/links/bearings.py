"""What a judge of a direction of a link knows besides the frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.fabric.links.transmitter import serialisation_ns
from lab.plan.model import Link
from lab.topology.character import Backend, Impairment
from lab.verify.links.toll import Felt
from lab.verify.links.traffic import Flow

CLOCK_S = 0.000_1
"""By how much two clocks of one machine may disagree about a delay, plus a hundredth of it in a
hundred: they are adjusted while they run."""
SLACK_S = 0.0012
"""How late an idle machine may be with anything."""
_FOREIGN = 0.05
"""Share of a rate from which on the traffic of others is felt."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """A direction of a link, what is declared of it, and what the machine did meanwhile."""

    link: Link
    where: tuple[str, str, str]
    """The link's title and name, and `up` or `down`."""
    way: Impairment
    """What is declared."""
    alpha: float
    """Of one finding: how often it may be wrong about a truth."""
    felt: Felt = field(default_factory=Felt)

    def serial_s(self, size: int) -> float:
        """How long a frame of that size takes to leave."""
        return serialisation_ns(size, self.way.rate_bit) / 1e9 if self.way.rate_bit else 0.0

    @property
    def in_bucket(self) -> bool:
        """Whether a lone frame passes a rate at once: a token bucket's way."""
        return self.link.backend is Backend.KERNEL

    def crowded(self, flow: Flow) -> str:
        """That others use too much of a direction to tell it from a slow one; or empty."""
        rate = self.way.rate_bit
        if not rate or len(flow.sent) < 2:
            return ""
        begin, end = flow.span_ns
        used = sum(size for at_ns, size in flow.foreign if begin <= at_ns <= end) * 8
        share = used / max((end - begin) / 1e9, 1e-3) / rate
        return f"others use {share:.0%} of it" if share > _FOREIGN else ""
