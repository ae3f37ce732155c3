"""What verification says of one link, whatever carries it: for the ferry, and for netem in a VM.

`CASES` have what is declared, what the link is told to be instead, and which
dimensions are to be called different; `python -m tests.kernel.verify.links_on kernel`
prints one JSON line for each.

All cases are links of one network, so that one verification is about all.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from lab.fabric import netns
from lab.fabric.links import kernel, tap
from lab.fabric.links.ferry import Ferry
from lab.observe import host
from lab.observe.health import HealthSampler
from lab.paths import NETNS_DIR, LabPaths
from lab.plan.model import End, Link
from lab.topology.character import (
    Backend,
    Bursts,
    DataFile,
    Impairment,
    LossPattern,
    Order,
    Queue,
    QueueUnit,
)
from lab.topology.presets import Presets
from lab.verify.links.measure import measure
from lab.verify.links.toll import Read, Reading
from lab.verify.report import LinkFinding, LinkVerdict
from tests.kernel.links.conformance import run


@dataclass(frozen=True)
class Case:
    """One link, each direction as declared and as it is told to be behind the plan's back."""

    declared: Impairment
    told: Impairment
    noticed: frozenset[str]
    """Dimensions that differ in the direction that was told so; none where all is as declared."""
    besides: frozenset[str] = frozenset()
    """Dimensions that may differ, too, as they follow from these."""
    mtu: int = 1500
    told_mtu: int = 0
    """What one end takes instead."""
    like: frozenset[str] = frozenset()
    """Dimensions that are measured, and as declared."""
    behind: frozenset[str] = frozenset()
    """Dimensions that may differ in the other direction: a veth takes no longer frame than it
    sends, a TAP does."""


def of(*names: str) -> frozenset[str]:
    return frozenset(names)


def trace(name: str) -> DataFile:
    path = Path(__file__).parent / "traces" / f"{name}.trace"
    return DataFile(str(path), sha256(path.read_bytes()).hexdigest())


FAIR = Impairment(rate_bit=10_000_000, delay_us=20_000)
NORMAL = Impairment(delay_us=60_000)
STRAYING = Impairment(delay_us=40_000, jitter_us=15_000)
LOSSY = Impairment(delay_us=5000, loss=0.15)
BURSTY = Impairment(delay_us=5000, bursts=Bursts(p=0.01, r=0.25))
BLURRED = Impairment(delay_us=5000, bursts=Bursts(p=0.02, r=0.2, good=0.01, bad=0.6))
PATTERN = Impairment(delay_us=5000, pattern=LossPattern(lost=(2, 3, 11), of=30))
TRACED = Impairment(delay_us=10_000, trace=trace("uneven"))
FREE = replace(STRAYING, order=Order.FREE)
ALIKE = replace(FREE, correlation=0.8)
QUICK = ("wifi-bad", "dsl", "cable", "lte", "intercontinental")
TRIES = 6
PAUSE_S = 0.02
"""Of the machine: what is shorter, verification itself allows for."""
SHORT_QUEUE = replace(FAIR, queue=Queue(length=40, unit=QueueUnit.PACKETS))

BROKEN: dict[str, Case] = {
    "delay, longer": Case(FAIR, replace(FAIR, delay_us=45_000), of("delay"), of("queue")),
    "delay, shorter": Case(FAIR, replace(FAIR, delay_us=12_000), of("delay"), of("queue")),
    "no delay": Case(NORMAL, Impairment(), of("delay")),
    "a delay where there is none": Case(Impairment(), Impairment(delay_us=40_000), of("delay")),
    "jitter where there is none": Case(
        NORMAL, replace(NORMAL, jitter_us=40_000), of("jitter"), of("delay", "rate")
    ),
    "no jitter": Case(STRAYING, replace(STRAYING, jitter_us=0), of("jitter"), of("delay")),
    "more delay under jitter": Case(STRAYING, replace(STRAYING, delay_us=100_000), of("delay")),
    "loss where there is none": Case(FAIR, replace(FAIR, loss=0.1), of("loss")),
    "no loss": Case(LOSSY, replace(LOSSY, loss=0.0), of("loss")),
    "more loss": Case(LOSSY, replace(LOSSY, loss=0.5), of("loss"), of("length of bursts")),
    "bursts where there are none": Case(
        NORMAL, replace(NORMAL, bursts=Bursts(p=0.05, r=0.25)), of("loss")
    ),
    "more bursts": Case(
        BURSTY, replace(BURSTY, bursts=Bursts(p=0.3, r=0.25)), of("loss"), of("length of bursts")
    ),
    "bursts, shorter": Case(
        BURSTY, replace(BURSTY, bursts=Bursts(p=0.04, r=1.0)), of("length of bursts")
    ),
    "bursts, longer": Case(
        BURSTY, replace(BURSTY, bursts=Bursts(p=0.02, r=0.05)), of("length of bursts"), of("loss")
    ),
    "bursts for chance": Case(
        LOSSY,
        replace(LOSSY, loss=0.0, bursts=Bursts(p=0.0353, r=0.2)),
        of("length of bursts"),
        of("loss"),
    ),
    "another pattern": Case(
        PATTERN,
        replace(PATTERN, pattern=LossPattern(lost=(2, 4, 11), of=30)),
        of("pattern of losses"),
    ),
    "chance for a pattern": Case(
        PATTERN, replace(PATTERN, pattern=None, loss=0.1), of("pattern of losses"), of("loss")
    ),
    "no correlation": Case(ALIKE, FREE, of("correlation"), of("jitter", "delay")),
    "correlation where there is none": Case(FREE, ALIKE, of("correlation"), of("jitter", "delay")),
    "another trace of that rate": Case(
        TRACED, replace(TRACED, trace=trace("steady")), of("rate"), of("delay")
    ),
    "a rate for a trace": Case(
        TRACED, replace(TRACED, trace=None, rate_bit=12_000_000), of("rate"), of("delay")
    ),
    "mtu, shorter": Case(NORMAL, NORMAL, of("mtu"), told_mtu=1300, behind=of("mtu")),
    "duplication, less": Case(
        replace(NORMAL, duplicate=0.3), replace(NORMAL, duplicate=0.1), of("duplication")
    ),
    "corruption, more": Case(
        replace(NORMAL, corrupt=0.05), replace(NORMAL, corrupt=0.3), of("corruption"), of("loss")
    ),
    "rate, lower": Case(FAIR, replace(FAIR, rate_bit=8_000_000), of("rate")),
    "rate, higher": Case(FAIR, replace(FAIR, rate_bit=13_000_000), of("rate")),
    "a rate where there is none": Case(
        NORMAL, replace(NORMAL, rate_bit=10_000_000), of("rate"), of("loss")
    ),
    "no rate": Case(FAIR, replace(FAIR, rate_bit=0), of("rate"), of("delay")),
    "queue, longer": Case(
        SHORT_QUEUE,
        replace(SHORT_QUEUE, queue=Queue(length=90, unit=QueueUnit.PACKETS)),
        of("queue"),
    ),
    "queue, shorter": Case(FAIR, SHORT_QUEUE, of("queue")),
    "reordering": Case(NORMAL, replace(NORMAL, reorder=0.2), of("reordering")),
    "no reordering": Case(replace(NORMAL, reorder=0.2), NORMAL, of("reordering")),
    "duplication": Case(NORMAL, replace(NORMAL, duplicate=0.1), of("duplication")),
    "corruption": Case(NORMAL, replace(NORMAL, corrupt=0.1), of("corruption"), of("loss")),
}


def as_declared() -> dict[str, Case]:
    """Presets, but for those whose queues take seconds, and what no preset has."""
    found = {}
    for name, preset in Presets().link.items():
        spec = preset.behaviour
        if name not in QUICK:
            continue
        for way, impairment in (("up", spec.up), ("down", spec.down)):
            if way == "up" or impairment != spec.up:
                found[f"{name} {way}"] = Case(
                    impairment, impairment, frozenset(), mtu=spec.mtu or 1500
                )
    odd = Impairment(
        delay_us=30_000, jitter_us=5000, order=Order.FREE, loss=0.02, duplicate=0.03, corrupt=0.02
    )
    found["odd"] = Case(odd, odd, frozenset())
    found["plain"] = Case(Impairment(), Impairment(), frozenset())
    for name, like in (
        ("no loss", "loss"),
        ("no reordering", "reordering"),
        ("more bursts", "length of bursts"),
        ("another pattern", "pattern of losses"),
        ("no correlation", "correlation"),
        ("another trace of that rate", "rate"),
        ("no jitter", "jitter"),
        ("queue, longer", "queue"),
        ("queue, shorter", "queue"),
    ):
        declared = BROKEN[name].declared
        found[f"as in {name}"] = Case(declared, declared, frozenset(), like=of(like))
    found["blurred bursts"] = Case(BLURRED, BLURRED, frozenset(), like=of("length of bursts"))
    return found


class Wires:
    """Many links between two namespaces, each as its case has it; a context manager."""

    def __init__(self, backend: Backend, folder: Path, cases: Mapping[str, Case]) -> None:
        self.name = f"t-wires-{secrets.token_hex(3)}"
        self.backend = backend
        self.paths = LabPaths(folder / self.name)
        self.spaces = [NETNS_DIR / f"{self.name}.{side}" for side in "ab"]
        self.cases = cases
        self.links = {
            name: Link(
                a=End(node="a", interface=f"e{number}", mac=f"02:00:00:00:{number:02x}:01"),
                b=End(node="b", interface=f"e{number}", mac=f"02:00:00:00:{number:02x}:02"),
                a_to_b=case.declared,
                b_to_a=case.declared,
                mtu=case.mtu,
                backend=backend,
            )
            for number, (name, case) in enumerate(cases.items())
        }
        self.ferry: Ferry | None = None

    def __enter__(self) -> Self:
        try:
            for path in self.spaces:
                netns.create(path)
                with netns.inside(path):
                    # Only what verification sends is on the wires.
                    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            if self.backend is Backend.FERRY:
                self.ferry = Ferry.start(self.paths, 1)
            for name, link in self.links.items():
                self._join(link)
                self._tell(replace(link, a_to_b=self.cases[name].told))
                if mtu := self.cases[name].told_mtu:
                    self.narrow(name, 0, mtu)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.ferry:
            self.ferry.close()
        for path in self.spaces:
            with contextlib.suppress(Exception):
                netns.delete(path)

    def _join(self, link: Link) -> None:
        a, b, mtu = link.a, link.b, link.mtu
        if self.ferry:
            ends = []
            for path, end in zip(self.spaces, (a, b), strict=True):
                with netns.inside(path):
                    ends.append(tap.create(end.interface, end.mac, mtu))
            self.ferry.attach(link, *ends)
            return
        one, other = (path.name for path in self.spaces)
        run(*f"ip -n {one} link add {a.interface} address {a.mac} mtu {mtu} type veth peer name "
            f"{b.interface} address {b.mac} mtu {mtu} netns {other}".split())  # fmt: skip
        for path in self.spaces:
            run("ip", "-n", path.name, "link", "set", a.interface, "up")

    def _tell(self, link: Link) -> None:
        if self.ferry:
            self.ferry.shape(link)
            return
        for path, end, way in zip(
            self.spaces, (link.a, link.b), (link.a_to_b, link.b_to_a), strict=True
        ):
            with netns.inside(path):
                kernel.shape(end.interface, way)

    def narrow(self, name: str, side: int, mtu: int) -> None:
        """Have one end of a link take less than is declared."""
        end = (self.links[name].a, self.links[name].b)[side]
        run("ip", "-n", self.spaces[side].name, "link", "set", end.interface, "mtu", str(mtu))

    def reading(self) -> Reading:
        """How the machine fares that carries them."""
        dropped = host.read().softirq_drops
        if not self.ferry:
            return Reading(dropped=dropped)
        return Reading(self.ferry.stats().lateness.counts, dropped, self.ferry.pid)

    def measured(self, read: Read | None = None) -> dict[str, list[LinkFinding]]:
        """What is said of the link of each case."""
        names = {link.name: name for name, link in self.links.items()}
        links = [*self.links.values()]
        found, unmeasured = measure(links, self.paths, read=read or self.reading)
        assert not unmeasured
        by_case: dict[str, list[LinkFinding]] = {name: [] for name in self.cases}
        for one in found:
            by_case[names[one.name]].append(one)
        return by_case


@dataclass(frozen=True)
class Told:
    """What came of a case."""

    error: str
    """What is said wrongly; empty if nothing is."""
    busy: tuple[str, ...]
    """Why that may be the machine's fault; none if it kept up."""


def verified(backend: Backend, folder: Path, cases: Mapping[str, Case]) -> dict[str, Told]:
    """All cases measured at once; those that a busy machine may have spoilt, some times again."""
    told: dict[str, Told] = {}
    left = cases
    for _ in range(TRIES):
        with Wires(backend, folder, left) as wires, contextlib.ExitStack() as stack:
            ferry = wires.ferry
            health = HealthSampler(ferry.stats if ferry else lambda: None)
            stack.callback(health.close)
            mark = health.mark()
            found = wires.measured()
            fared = health.since(mark)
            busy = fared.reasons
            # A pause now and then is none of the slowest hundredth, which is judged there.
            if fared.lag_max_s > PAUSE_S:
                busy = (*busy, f"it paused for {fared.lag_max_s * 1e3:.0f} ms")
        details = {
            one.detail
            for ones in found.values()
            for one in ones
            if one.verdict is LinkVerdict.DISTORTED
        }
        busy = busy or tuple(sorted(details))
        told |= {name: Told(_error(case, found[name]), busy) for name, case in left.items()}
        left = {name: case for name, case in left.items() if told[name].error}
        if not left or not busy:
            break
    return told


def _error(case: Case, found: list[LinkFinding]) -> str:
    try:
        check(case, found)
    except AssertionError as error:
        return str(error)
    return ""


def check(case: Case, found: list[LinkFinding]) -> None:
    """AssertionError unless what differs is called so, and nothing else."""
    assert {one.way for one in found} == {"up", "down"}
    wrong = {(one.way, str(one.dimension)) for one in found if not one.ok}
    said = [(one.way, str(one.dimension), one.declared, one.observed) for one in found]
    assert {("up", name) for name in case.noticed} <= wrong, said
    other = {("down", name) for name in case.behind}
    assert wrong <= {("up", name) for name in case.noticed | case.besides} | other, said
    right = {str(one.dimension) for one in found if one.verdict is LinkVerdict.AS_DECLARED}
    assert case.like <= right, said


def longest(found: list[LinkFinding]) -> dict[str, tuple[bool, float]]:
    """What is said of the MTU each way."""
    return {one.way: (one.ok, one.observed_value) for one in found if one.dimension == "mtu"}


def main(backend: Backend, names: list[str]) -> int:
    """Verify the cases of these names; a JSON line each; 1 if one failed."""
    everything = BROKEN | as_declared()
    failed = False
    for name in names or everything:
        # Each by itself: an emulated processor offers a few Mbit/s in all, and always lags.
        with tempfile.TemporaryDirectory() as folder:
            told = verified(backend, Path(folder), {name: everything[name]})[name]
        error = f"{told.error} ({', '.join(told.busy)})" if told.error else ""
        failed |= bool(error)
        print(json.dumps({"check": name, "error": error}), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(Backend(sys.argv[1]), sys.argv[2:]))
