"""A packet at one node, and what the rules of that node said to it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lab.observe.explain.events import Capture, Decision, Rule
from lab.observe.explain.packet import Packet, parse
from lab.peer.endpoint import Endpoint


@dataclass(slots=True)
class Stop:
    """A packet at one node: as it came in, as it went out, and what rules said to it."""

    node: str
    came: Packet | None = None
    """None where it began."""
    came_ns: int = 0
    came_by: str = ""
    went: Packet | None = None
    """None where it ended."""
    went_ns: int = 0
    went_by: str = ""
    traced: bool = False
    """Whether it is known what rules said to it, be it nothing."""
    decisions: tuple[Decision, ...] = ()
    dropped_by: Rule | None = None
    led_by: Rule | None = None
    """The rule that sent it to where it was dropped, the last one that says why."""

    @property
    def packet(self) -> Packet:
        """As it was seen here first."""
        packet = self.came or self.went
        assert packet is not None  # noqa: S101 - a stop is made of a sighting
        return packet

    @property
    def first_ns(self) -> int:
        return self.came_ns if self.came else self.went_ns

    @property
    def translated(self) -> bool:
        """Whether its addresses or ports changed here."""
        return self.came is not None and self.went is not None and self.came.flow != self.went.flow

    @property
    def turned_to(self) -> Endpoint | None:
        """The destination that it was given here; None if it kept its own."""
        if self.came is None or self.went is None:
            return None
        changed = self.went.destination != self.came.destination
        return self.went.destination if changed else None

    @property
    def reason(self) -> str:
        """Why it was dropped here, in the words of the rules; empty if it was not."""
        comments = [
            rule.comment for rule in (self.led_by, self.dropped_by) if rule and rule.comment
        ]
        if comments:
            return ": ".join(dict.fromkeys(comments))
        return self.dropped_by.text if self.dropped_by else ""


def decide(stops: list[Stop], capture: Capture) -> None:
    """Give each stop the decisions about its packet; a packet that rules kept at home appears."""
    words = _Rules(capture.rules)
    waiting: dict[tuple[str, bytes], deque[Stop]] = defaultdict(deque)
    prefixed = {node.name for plan in capture.plans for node in plan.nodes if node.nptv6}
    for stop, data in _headers(stops, capture):
        waiting[stop.node, _known(data, stop.node in prefixed)].append(stop)
    for said in _packets(capture.decisions):
        first, last = said[0], said[-1]
        packet = parse(first.header)
        if packet is None:
            continue
        queue = waiting.get((first.node, _known(first.header, first.node in prefixed)))
        dropped = last.verdict == "drop"
        if queue:
            stop = queue.popleft()
        elif dropped and first.chain == _OUTPUT:
            stop = Stop(first.node, went=packet, went_ns=first.at_ns)
            stops.append(stop)
        else:
            continue
        stop.traced, stop.decisions = True, tuple(said[1:])
        if dropped:
            policy = Rule(
                last.node,
                last.table,
                last.chain,
                last.handle,
                f"policy of {last.chain}",
                _MOMENTARY.get((last.table, last.chain), ""),
            )
            stop.dropped_by = words.of(last, stop.first_ns) or policy
            jumps = [one for one in said[1:-1] if one.verdict in ("jump", "goto")]
            led = [words.of(one, stop.first_ns) for one in jumps]
            known = [rule for rule in led if rule is not None and rule.table == last.table]
            # The last one that says why; else the last one.
            stop.led_by = next((rule for rule in reversed(known) if rule.comment), None) or (
                known[-1] if known else None
            )


_MOMENTARY = {("ip lab", "down"): "the router restarts"}
"""Comments of rules that stand too short to be listed (`lab.fabric.rules.loading`)."""


class _Rules:
    """The rules that stood, by what decisions call them."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._known: dict[tuple[str, str, int], list[Rule]] = defaultdict(list)
        for rule in rules:
            self._known[rule.node, rule.table, rule.handle].append(rule)
        for versions in self._known.values():
            versions.sort(key=lambda rule: rule.until_ns or _FOREVER)

    def of(self, decision: Decision, at_ns: int) -> Rule | None:
        """The rule that `decision` is about, made on a packet seen `at_ns`; None if unknown."""
        versions = self._known.get((decision.node, decision.table, decision.handle), [])
        return next(
            (
                rule
                for rule in versions
                if at_ns <= (rule.until_ns or _FOREVER) and rule.chain == decision.chain
            ),
            None,
        )


_FOREVER = 1 << 63

_OUTPUT = "output"
"""The observer's chain for what a node sends itself."""


def _known(data: bytes, prefixed: bool) -> bytes:
    """By which part of a packet a decision about it is recognised.

    That is the IP header, and 8 bytes of the next, but for the checksum of
    UDP, which may be computed last of all, and at a router that translates
    IPv6 prefixes but for these: it does so before the observer looks.
    """
    if prefixed and data[0] >> 4 == 6:
        data = data[:8] + data[16:24] + bytes(16) + data[32:]
    head, protocol = (40, data[6]) if data[0] >> 4 == 6 else ((data[0] & 0xF) * 4, data[9])
    return data[: head + (6 if protocol == _UDP else 8)]


_UDP = 17


def _headers(stops: Iterable[Stop], capture: Capture) -> Iterator[tuple[Stop, bytes]]:
    """Each stop's packet as rules meet it first: as it comes in, or as it is sent."""
    raw = {
        (one.node, one.interface, one.at_ns, one.outgoing): one.data for one in capture.sightings
    }
    for stop in stops:
        if stop.came:
            yield stop, raw[stop.node, stop.came_by, stop.came_ns, False]
        else:
            yield stop, raw[stop.node, stop.went_by, stop.went_ns, True]


def _packets(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    """The decisions about each packet; the first of each is where the observer met it."""
    current: dict[tuple[str, int], list[Decision]] = {}
    order: list[list[Decision]] = []
    for decision in decisions:
        key = (decision.node, decision.packet)
        if decision.table.endswith(" lab_explain"):
            current[key] = [decision]
            order.append(current[key])
        elif key in current:
            current[key].append(decision)
    return iter(order)
