"""What the kernel can't do of the link model, and so the ferry does."""

from __future__ import annotations

from lab.plan.model import Link
from lab.topology.character import Discipline, Impairment, QueueUnit
from lab.topology.model import WantedBackend

_LONGEST_JITTER_US = 2_000_000
"""netem computes with it in 32 bits of nanoseconds."""

_FAIR_RATE_BIT = 5_000_000
"""Two full frames take CoDel's target of 5 ms here.

A packet of a sparse flow may wait that long behind others, and below that
rate the kernel's fq_codel lost one in ten of those (at 2 Mbit/s, Linux 6.12,
with netem and without): it seems to remember the last long wait of a flow
while that is idle, where RFC 8289 forgets it.
"""


def kernel_cannot(way: Impairment, *, netem: bool) -> str:
    """Why the kernel can't carry a direction like `way`, as the end of a sentence; "" if it can.

    A rate alone is within reach of every kernel (a token bucket).
    """
    if not netem and way.beyond_rate:
        return "there is no netem"
    active = way.discipline is not Discipline.DROP_TAIL
    if not netem and active and way.limited:
        # Whoever left the one out has mostly left out the other.
        return "there is no netem, and likely no CoDel"
    own_queue = active or way.queue.unit is QueueUnit.BYTES
    for lacks, reason in (
        (way.trace, "the kernel plays no packet-delivery traces"),
        (way.pattern, "netem loses by chance alone, and not by a pattern"),
        (way.jitter_us > _LONGEST_JITTER_US, "netem's jitter ends at two seconds"),
        (way.correlation, "netem's jitter is not correlated, whatever it is told"),
        (way.duplicate and way.limited, "the kernel duplicates no packets before a rate"),
        (
            own_queue and (way.jitter_us or way.reorder),
            "the kernel's queue comes after its delay, so jitter would reach it",
        ),
    ):
        if lacks:
            return reason
    return ""


def kernel_lacks(way: Impairment, *, netem: bool, seed: bool) -> str:
    """Why the ferry is the better choice, as the end of a sentence; "" if the kernel is."""
    if reason := kernel_cannot(way, netem=netem):
        return reason.replace("there is", "this kernel has")
    if way.discipline is Discipline.FQ_CODEL and way.rate_bit < _FAIR_RATE_BIT:
        return "the kernel's fq_codel drops packets of sparse flows below 5 Mbit/s"
    if way.random and not seed:
        return "this kernel's netem takes no seed"
    return ""


def why_ferry(link: Link, *, netem: bool, seed: bool) -> str:
    """Why a link that the ferry carries is not the kernel's, as the end of a sentence."""
    for way in (link.a_to_b, link.b_to_a):
        if reason := kernel_lacks(way, netem=netem, seed=seed):
            return reason
    return "as the file demands" if link.spec.backend is WantedBackend.FERRY else "as before"
