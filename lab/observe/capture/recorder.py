"""One recording: opens a tap and a tracer in each namespace, reads them, and closes them.

All are read by one thread.  The order of packets is that of the kernel's time
stamps, which are of one clock for the whole machine.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import msgspec

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.rules.standing import OBSERVERS, mappings
from lab.observe.capture.library import Library
from lab.observe.capture.packets import Tap
from lab.observe.capture.tracing import Tracer, lost
from lab.observe.explain.events import Decision, Held, Rule, Sighting
from lab.observe.explain.packet import parse
from lab.paths import LabPaths
from lab.plan.model import Node, NodeKind

MOST_PACKETS = 60_000
"""Sightings that are kept; an attempt takes some hundreds."""
_THREADS = 4


class Recorder:
    """Records what passes `nodes` and concerns `addresses`, inside a `with` block.

    Where rules can't be traced, packets are recorded without them; `lost` says
    so once, and `untraced` where.  Raises LabError if packets can't be looked at.
    """

    def __init__(self, paths: LabPaths, nodes: Sequence[Node], addresses: Sequence[str]) -> None:
        self.sightings: list[Sighting] = []
        self.decisions: list[Decision] = []
        self.lost: list[str] = []
        self.untraced: list[str] = []
        self.ended_ns = 0
        self._paths = paths
        self._nodes = list(nodes)
        self._addresses = addresses
        self._wanted = frozenset(addresses)
        self._taps: list[Tap] = []
        self._tracers: list[Tracer] = []
        self._commits: dict[str, list[tuple[int, int]]] = {}
        self._poll = select.epoll()
        self._readers: dict[int, Tap | Tracer] = {}
        self._library = Library(paths)
        self._held: list[Held] = []
        self._followed: dict[tuple[str, int], bool] = {}
        self._seen = threading.Condition()
        self._full = False
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="explain", daemon=True)

    def __enter__(self) -> Self:
        try:
            for node in self._nodes:
                for reader in self._observe(node):
                    self._readers[reader.fileno()] = reader
            # Now, so that no change has to wait for it.
            self._library.read(node.name for node in self._nodes if self._ruled(node))
        except BaseException:
            self._close()
            raise
        for number in (*self._readers, self._stop):
            self._poll.register(number, select.EPOLLIN)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended_ns = time.time_ns()
        os.write(self._stopped, b"x")
        self._thread.join()
        if not self._full:
            self.ended_ns = ended_ns
        for tap in self._taps:
            if missed := tap.missed():
                self.lost.append(f"{missed} packets at {tap.node}")
        self._close()
        self.sightings.sort(key=lambda sighting: sighting.at_ns)

    def wait_arrivals(self, names: Sequence[str], number: int, most_s: float) -> None:
        """Wait until so many packets have come in at each of these nodes, or for `most_s`."""
        until = time.monotonic() + most_s
        with self._seen:
            while (left := until - time.monotonic()) > 0:
                came = Counter(one.node for one in self.sightings if not one.outgoing)
                if all(came[name] >= number for name in names):
                    return
                self._seen.wait(left)

    def widen(self, nodes: Sequence[Node], addresses: Sequence[str]) -> None:
        """Record from now on what passes these `nodes`, as they are to be, too.

        Of IPv4 what concerns `addresses`, which replace those of before.
        """
        self._addresses = addresses
        self._wanted = frozenset(addresses)
        for tap in self._taps:
            tap.widen(addresses)
        before = {node.name for node in self._nodes}
        now = {node.name for node in nodes}
        self._nodes = [*nodes, *(node for node in self._nodes if node.name not in now)]
        for node in nodes:
            if node.name not in before:
                self._heed(self._observe(node))
            elif node.fences and node.name not in self._commits:
                self._heed(self._trace(node))

    def commits(self, name: str) -> tuple[tuple[int, int], ...]:
        """Between which moments the rules of a node were changed, each time they were.

        The second of each is when the kernel's notice of it was read.
        """
        return tuple(self._commits.get(name, ()))

    def keep(self, names: Collection[str]) -> None:
        """Keep the rules and mappings of these nodes as they are now: they are about to go."""
        recorded = self._recorded(names)
        self._library.keep(sorted(recorded), time.time_ns())
        self._held += self._mapped(recorded)

    def expect_more(self, names: Iterable[str]) -> None:
        """Get ready, beside everything else, for the next change of the rules of these nodes."""
        self._library.read_later(self._recorded(names))

    def wait_quiet(self, quiet_s: float, most_s: float) -> None:
        """Wait until nothing has passed for `quiet_s`, or for `most_s` in all."""
        until = time.monotonic() + most_s
        with self._seen:
            while (left := until - time.monotonic()) > 0:
                if not self._seen.wait(min(quiet_s, left)):
                    return

    def rules(self) -> tuple[Rule, ...]:
        """The rules that stand, and stood, in the nodes whose rules decided something."""
        used = {(d.node, d.table, d.handle) for d in self.decisions if d.table != OBSERVERS}
        nodes = self._standing({node for node, _, _ in used})
        found = self._library.rules(nodes)
        known = {(rule.node, rule.table, rule.handle) for rule in found}
        if unknown := nodes & {node for node, table, handle in used - known if handle}:
            # What was read before may have been cut short by a program that failed.
            self._library.doubt(unknown)
            found = self._library.rules(nodes)
        return tuple(
            self._until(rule) for rule in found if (rule.node, rule.table, rule.handle) in used
        )

    def held(self) -> tuple[Held, ...]:
        """The mappings of the recorded NATs, as they are now, and those that were kept."""
        return (*self._held, *self._mapped(self._standing({node.name for node in self._nodes})))

    def _recorded(self, names: Iterable[str]) -> set[str]:
        """Those of these nodes that are recorded: nobody asks about the rules of others."""
        return {node.name for node in self._nodes}.intersection(names)

    def _standing(self, names: Iterable[str]) -> set[str]:
        """Those of these nodes that are there still: of others, what was kept is all there is."""
        return {name for name in names if self._paths.netns(name).exists()}

    def _until(self, rule: Rule) -> Rule:
        """A rule that was kept stood until the change came that it was kept for."""
        if not rule.until_ns:
            return rule
        later = (at for _, at in self._commits.get(rule.node, ()) if at >= rule.until_ns)
        return msgspec.structs.replace(rule, until_ns=next(later, rule.until_ns))

    def _ruled(self, node: Node) -> bool:
        """Whether it has rules that can be traced."""
        return node.name in self._commits and bool(
            node.nat or node.firewall or node.firewall6 or node.nptv6 or node.nat64 or node.fences
        )

    def _mapped(self, names: Collection[str]) -> list[Held]:
        found: list[Held] = []
        for node in self._nodes:
            if node.nat is None or node.name not in names:
                continue
            with netns.inside(self._paths.netns(node.name)):
                found += [
                    Held(
                        node=node.name,
                        protocol=one.protocol,
                        inside=one.inside,
                        external_port=one.external_port,
                        towards=one.towards,
                        timeout_s=one.timeout_s,
                    )
                    for one in mappings(node.nat.mapping)
                ]
        return found

    def _heed(self, opened: Iterable[Tap | Tracer]) -> None:
        """Read from these too, while the thread already reads from others."""
        for reader in opened:
            self._readers[reader.fileno()] = reader
            self._poll.register(reader.fileno(), select.EPOLLIN)

    def _observe(self, node: Node) -> Iterator[Tap | Tracer]:
        """Open what looks at a node."""
        tap = Tap(self._paths.netns(node.name), node.name, self._addresses)
        self._taps.append(tap)
        yield tap
        if node.kind is not NodeKind.INTERNET or node.fences:
            yield from self._trace(node)

    def _trace(self, node: Node) -> Iterator[Tracer]:
        try:
            tracer = Tracer(self._paths.netns(node.name), node.name)
            self._tracers.append(tracer)
            self._commits[node.name] = tracer.commits
            yield tracer
        except LabError as error:
            if not self.untraced:
                self.lost.append(
                    f"{error.message}, so why a router kept a packet is not known "
                    "(`lab doctor` says what is missing)"
                )
            self.untraced.append(node.name)

    def _run(self) -> None:
        stopping = False
        while True:
            ready = [number for number, _ in self._poll.poll(0 if stopping else -1)]
            for number in ready:
                if reader := self._readers.get(number):
                    self._read(reader)
            if stopping:
                break
            stopping = self._stop in ready
        # What came between the last look and the order to stop.
        for reader in tuple(self._readers.values()):
            self._read(reader)

    def _read(self, reader: Tap | Tracer) -> None:
        try:
            if isinstance(reader, Tap):
                for sighting in reader.read():
                    self._sighted(sighting)
                with self._seen:
                    self._seen.notify_all()
            else:
                for decision in reader.read():
                    self._decided(decision)
        except OSError as error:
            what = "some decisions" if lost(error) else f"({error.strerror})"
            self.lost.append(f"{what} at {reader.node}")

    def _sighted(self, sighting: Sighting) -> None:
        """Keep it, if there is room; the first for which there is none ends what is recorded."""
        if len(self.sightings) < MOST_PACKETS:
            self.sightings.append(sighting)
        elif not self._full:
            self._full, self.ended_ns = True, sighting.at_ns
            self.lost.append(f"what came after the first {MOST_PACKETS} sightings of packets")

    def _decided(self, decision: Decision) -> None:
        """Keep what rules did with packets that concern us; most of what is said says nothing."""
        if self._full:
            return
        key = (decision.node, decision.packet)
        if decision.table == OBSERVERS:
            if decision.handle:
                packet = parse(decision.header)
                ends = {packet.source.address, packet.destination.address} if packet else set()
                self._followed[key] = not self._wanted.isdisjoint(ends)
                if self._followed[key]:
                    self.decisions.append(decision)
            return
        if self._followed.get(key) and (decision.handle or decision.verdict == "drop"):
            self.decisions.append(decision)

    def _close(self) -> None:
        self._library.close()
        for tap in self._taps:
            tap.close()
        # The kernel waits for others when a table goes; it does so once for all that wait.
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="explain") as pool:
            for tracer in self._tracers:
                pool.submit(tracer.close)
        self._taps, self._tracers = [], []
        self._poll.close()
        os.close(self._stop)
        os.close(self._stopped)
