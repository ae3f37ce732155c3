"""The rules of nodes, read when there is time for it: before anything is changed.

To list the rules of a namespace takes two or three programs, some 20 ms of a
processor.  A change that replaces rules need not wait for that: they are read
beforehand, and the number of the kernel's generation says, in a fraction of a
millisecond, whether they still are the ones that stand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import msgspec

from lab.fabric import netns
from lab.fabric.rules import nftables
from lab.observe.capture.rulebook import rules_of
from lab.observe.explain.events import Rule
from lab.paths import LabPaths

_THREADS = 2


class Library:
    """The rules that stand, and stood, in nodes of one lab; any thread may use it."""

    def __init__(self, paths: LabPaths) -> None:
        self._paths = paths
        self._standing: dict[str, tuple[int, tuple[Rule, ...]]] = {}
        """Of nodes that were read: in which generation, and what."""
        self._former: list[Rule] = []
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rules")

    def read(self, names: Iterable[str]) -> None:
        """Read the rules of these nodes as far as they are not known, and wait for that."""
        for _ in self._pool.map(self._current, names):
            pass

    def read_later(self, names: Iterable[str]) -> None:
        """Have them read, without waiting; what fails is read when it is needed."""
        for name in names:
            self._pool.submit(self._current, name)

    def keep(self, names: Iterable[str], until_ns: int) -> None:
        """Take the rules that stand there for what stood `until_ns`: they are about to go."""
        for name in names:
            kept = [msgspec.structs.replace(r, until_ns=until_ns) for r in self._current(name)]
            self._former += kept

    def rules(self, names: Collection[str]) -> tuple[Rule, ...]:
        """Those that stand in these nodes, and all that were kept."""
        found = list(self._former)
        for rules in self._pool.map(self._current, sorted(names)):
            found += rules
        return tuple(found)

    def doubt(self, names: Iterable[str]) -> None:
        """Forget what was read of these nodes: it can't have been everything."""
        for name in names:
            self._standing.pop(name, None)

    def close(self) -> None:
        """Wait for what is being read, and read no more."""
        self._pool.shutdown(cancel_futures=True)

    def _current(self, name: str) -> tuple[Rule, ...]:
        """The rules that stand in a node now; LabError if its namespace can't be entered."""
        with self._lock:
            lock = self._locks.setdefault(name, Lock())
        with lock, netns.inside(self._paths.netns(name)):
            # Asked before: what changes while they are listed has them read again.
            generation = nftables.generation()
            known = self._standing.get(name)
            if known is not None and known[0] == generation:
                return known[1]
            rules = rules_of(name)
            if rules:
                # Else none stand, or a program failed: next time may tell.
                self._standing[name] = (generation, rules)
            return rules
