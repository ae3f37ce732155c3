"""Following what is changed in a lab while somebody looks at its packets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

from lab.errors import LabError
from lab.observe.capture import Recorder
from lab.observe.explain.events import Happened
from lab.observe.explain.happenings import told, tried
from lab.observe.explain.wiring import own_addresses, way
from lab.plan.model import Plan
from lab.plan.operations import (
    AnyOperation,
    CreateNode,
    DeleteNode,
    FenceNode,
    LoadRules,
    ResetNode,
)
from lab.topology.changes import AnyChange

_REPLACING = LoadRules | ResetNode | FenceNode
"""Operations after which other rules stand in a node."""


class Witness:
    """Sees that a recorder goes on seeing two peers whatever is changed, and notes the changes.

    `before` and `after` surround each change, and `carried` is told of what was
    done in between.  `before` takes a millisecond: rules that are about to go
    were read when there was time for it (`lab.observe.capture.library`).  No
    change fails because somebody looks on, also not one that comes while the
    recording ends.
    """

    def __init__(self, recorder: Recorder, plan: Plan, local: str, remote: str) -> None:
        self._changes: list[_Change] = []
        self.tell: Callable[[], None] = _nobody
        """Called after each change."""
        self._recorder = recorder
        self._plan = plan
        self._ends = (local, remote)
        self._addresses = own_addresses(plan, way(plan, local, remote))
        self._current: _Change | None = None
        self._looking = Lock()
        self._ended = False

    def before(
        self,
        desired: Plan,
        operations: Sequence[AnyOperation],
        changes: Sequence[AnyChange] | None,
    ) -> None:
        """Get ready for what `operations` do; `changes` are what they were made from.

        None is a whole file; none at all what is not worth telling.
        """
        with self._looking:
            if self._ended:
                return
            gone = {op.node.name for op in operations if isinstance(op, DeleteNode)}
            with self._forgiven():
                self._recorder.keep(_ruled(operations) | gone)
                self._look_further(desired, self._plan)
        self._current = _Change(desired, operations, changes, time.time_ns())

    def end(self) -> None:
        """Let the recorder alone from here on; it may be closed."""
        with self._looking:
            self._ended = True

    def _look_further(self, desired: Plan, there: Plan) -> None:
        """Record what will pass the way in `desired`, as far as its nodes are `there`."""
        found = way(desired, *self._ends)
        self._addresses = tuple(dict.fromkeys((*self._addresses, *own_addresses(desired, found))))
        names = {node.name for node in there.nodes}.intersection(found.nodes)
        nodes = [node for node in desired.nodes if node.name in names]
        self._recorder.widen(nodes, self._addresses)

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        """What can't be looked at in the block is told with the rest, and stops no change."""
        try:
            yield
        except (LabError, OSError) as error:
            why = error.message if isinstance(error, LabError) else error.strerror
            self._recorder.lost.append(f"some of what a change brought ({why})")

    def carried(self, operation: AnyOperation, began_ns: int, ended_ns: int) -> None:
        """`operation` was carried out at some time between the two."""
        if self._current is not None:
            self._current.carried.append((operation, began_ns, ended_ns))

    def account(self) -> tuple[Happened, ...]:
        """What happened, each as of when it was done; for when the recording has ended."""
        return tuple(change.happened(self._recorder) for change in self._changes)

    @property
    def happened(self) -> bool:
        """Whether anything was changed so far."""
        return bool(self._changes)

    def after(self, failure: str = "") -> None:
        """The change that `before` was told of is made, or was given up because of `failure`."""
        change, self._current = self._current, None
        if change is None:
            return
        change.ended_ns, change.failure = time.time_ns(), failure
        change.is_new = change.plan is not self._plan
        self._changes.append(change)
        self._plan = change.plan
        with self._looking:
            if not self._ended:
                if not failure and any(isinstance(op, CreateNode) for op in change.operations):
                    with self._forgiven():
                        self._look_further(change.plan, change.plan)
                known = {node.name for node in change.plan.nodes}
                self._recorder.expect_more(_ruled(change.operations) & known)
        self.tell()


class _Change:
    """A change as far as it has come."""

    def __init__(
        self,
        plan: Plan,
        operations: Sequence[AnyOperation],
        changes: Sequence[AnyChange] | None,
        began_ns: int,
    ) -> None:
        self.plan = plan
        self.operations = operations
        self.carried: list[tuple[AnyOperation, int, int]] = []
        self.failure = ""
        self.is_new = False
        """Whether the plan is another one than before."""
        self.ended_ns = began_ns
        self._began_ns = began_ns
        self._changes = changes

    def happened(self, recorder: Recorder) -> Happened:
        """What it was, dated as well as what was done and the kernel's notices allow."""
        began_ns, ended_ns = self._began_ns, self.ended_ns
        if self.carried and not self.failure:
            began_ns = min(began for _, began, _ in self.carried)
            ended_ns = max(ended for _, _, ended in self.carried)
        resets = [op.node.name for op in self.operations if isinstance(op, ResetNode)]
        forgot = [
            name
            for name in resets
            if not self.failure or _within(recorder.commits(name), began_ns, ended_ns)
        ]
        notices = [
            notice
            for name in _ruled(self.operations)
            for notice in _within(recorder.commits(name), began_ns, ended_ns)
        ]
        if notices and all(isinstance(op, _REPLACING) for op in self.operations):
            # Nothing passes a router while it forgets, and the first notice comes in that time.
            first = min(at if forgot else since for since, at in notices)
            began_ns = min(max(began_ns, first), ended_ns)
            ended_ns = max(began_ns, min(ended_ns, max(at for _, at in notices)))
        return Happened(
            began_ns=began_ns,
            ended_ns=ended_ns,
            what=self._what(),
            plan=self.plan if self.is_new else None,
            forgot=tuple(forgot),
            failed=bool(self.failure),
        )

    def _what(self) -> tuple[tuple[str, str], ...]:
        if self.failure:
            return tried(self._changes, self.failure)
        if self._changes is None:
            return (("", "the lab was changed"),) if self.operations else ()
        return tuple(told(change, self.plan) for change in self._changes)


def _ruled(operations: Sequence[AnyOperation]) -> set[str]:
    """The nodes of which `operations` replace the rules."""
    return {op.node.name for op in operations if isinstance(op, _REPLACING)}


def _within(
    notices: Sequence[tuple[int, int]], began_ns: int, ended_ns: int
) -> list[tuple[int, int]]:
    """Those of changes of rules that may have been made between the two moments."""
    return [each for each in notices if each[0] <= ended_ns and each[1] >= began_ns]


def _nobody() -> None:
    """Nobody wants to know."""
