"""Links that are nothing but the model: the frames of a probe, and what would become of them.

No clock is read, so thousands of verifications take a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lab.fabric.links.line import Line
from lab.fabric.links.model import Direction
from lab.plan.model import End, Link
from lab.topology.character import Backend, Impairment
from lab.verify.links.bearings import Bearings
from lab.verify.links.measure import Way, judge
from lab.verify.links.toll import Felt, Toll
from lab.verify.links.traffic import Arrival, Flow
from lab.verify.report import LinkFinding

BEGIN_NS = 1_700_000_000_000_000_000
SENDING_NS = 4_000
FAR_NS = 1 << 62
Late = Callable[[Random], int]
"""By how many nanoseconds a frame comes late."""


def punctual(_: Random) -> int:
    return 30_000


class FakeEnd:
    """What stands for a socket: the direction that begins there, and a seed."""

    def __init__(self, way: Impairment, mtu: int, seed: int, late: Late) -> None:
        self.way, self.mtu, self.late = way, mtu, late
        self.rng = Random(seed)
        self.seed = seed
        self.sent = 0
        self.line: Line | None = None
        self.now_ns = BEGIN_NS


@dataclass
class FakeWire:
    a: Any
    b: Any


def link_of(way: Impairment) -> Link:
    a, b = (End(node=one, interface="e0", mac=f"02:00:00:00:00:0{i}") for i, one in enumerate("ab"))
    return Link(a=a, b=b, a_to_b=way, b_to_a=way, backend=Backend.FERRY)


def bearings(way: Impairment, alpha: float = 1e-4, felt: Felt | None = None) -> Bearings:
    return Bearings(link_of(way), ("a -- b", "a.e0", "up"), way, alpha, felt or Felt())


def flow_over(
    way: Impairment,
    offsets_ns: Sequence[int],
    size: int,
    *,
    seed: int = 1,
    late: Late = punctual,
    mtu: int = 1500,
) -> Flow:
    """The frames of a flow and what the model does to them."""
    end: Any = FakeEnd(way, mtu, seed, late)
    flow = Flow(end, end, size=size, offsets_ns=offsets_ns, settle_s=0.0, number=1)
    carry([flow])
    return flow


def carry(flows: Sequence[Flow]) -> Toll:
    """What stands for `traffic.carry`."""
    for flow in flows:
        _carry(flow)
    return Toll()


def _carry(flow: Flow) -> None:
    end: Any = flow.source
    if end.line is None:

        def lots(what: str) -> Random:
            return Random(f"{end.seed} {what}")

        end.line = Line(Direction(end.way, lots, BEGIN_NS), end.way, lots, BEGIN_NS)
    line: Line = end.line
    begin_ns = end.now_ns
    for number, offset in enumerate(flow.offsets_ns):
        at_ns = begin_ns + offset
        flow.sent.append((at_ns, at_ns + SENDING_NS))
        if flow.size > end.mtu + 14:
            flow.refused += 1
            continue
        line.put(at_ns, 3 * number.to_bytes(4, "big") + b"\x5a" * (flow.size - 12))
    last_ns = 0
    filler = b"\x5a" * (flow.size - 12)
    for at_ns, frame in line.take(FAR_NS):
        came_ns = at_ns + end.late(end.rng)
        last_ns = came_ns = max(came_ns, last_ns)
        copies = [frame[0:4], frame[4:8], frame[8:12]]
        # One inverted bit spoils one of them.
        copy = max(copies, key=copies.count)
        intact = frame == 3 * copy + filler
        flow.arrivals.append(Arrival(int.from_bytes(copy, "big"), came_ns, intact))
    end.now_ns = max(begin_ns + flow.offsets_ns[-1], last_ns) + 300_000_000


def verified(
    declared: Mapping[str, Impairment],
    told: Mapping[str, Impairment] | None = None,
    *,
    seed: int,
    family: float = 1e-4,
    late: Late = punctual,
    slow: bool = False,
    sides: tuple[str, ...] = ("up", "down"),
) -> list[LinkFinding]:
    """What `lab verify` would say of such links, by their names; `told` is what they really are."""
    ways = []
    alpha = family / (len(sides) * len(declared) * 11)
    for number, (name, way) in enumerate(declared.items()):
        link = link_of(way)
        real = (told or declared)[name]
        ends = [FakeEnd(real, 1500, seed * 1000 + 2 * number + side, late) for side in (0, 1)]
        for side, word in enumerate(sides):
            about = Bearings(link, (name, name, word), way, alpha)
            ways.append(Way(about, FakeWire(*ends), forth=not side))  # type: ignore[arg-type]
    return judge(ways, carry, slow=slow)
