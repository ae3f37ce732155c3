"""Following what is changed in a lab while somebody looks at its packets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock

import msgspec

from lab.errors import LabError
from lab.observe.capture import Recorder
from lab.observe.explain.events import Happened
from lab.observe.explain.happenings import told
from lab.observe.explain.wiring import own_addresses, way
from lab.plan.model import Plan
from lab.plan.operations import AnyOperation, FenceNode, LoadRules, ResetNode
from lab.topology.changes import AnyChange

_REPLACING = LoadRules | ResetNode | FenceNode
"""Operations after which other rules stand in a node."""


class Witness:
    """Sees that a recorder goes on seeing two peers whatever is changed, and notes the changes.

    `before` and `after` surround each change; they may take as long as it takes
    to list the rules of the nodes concerned.  No change fails because somebody
    looks on, also not one that comes while the recording ends.
    """

    def __init__(self, recorder: Recorder, plan: Plan, local: str, remote: str) -> None:
        self._happened: list[Happened] = []
        self.tell: Callable[[], None] = _nobody
        """Called after each change."""
        self._recorder = recorder
        self._plan = plan
        self._ends = (local, remote)
        self._addresses = own_addresses(plan, way(plan, local, remote))
        self._began: tuple[Plan, tuple[str, ...], int, list[tuple[str, str]]] | None = None
        self._looking = Lock()
        self._ended = False

    def before(
        self, desired: Plan, operations: Sequence[AnyOperation], changes: Sequence[AnyChange]
    ) -> None:
        """Get ready for what `operations` do; `changes` are what they were made from."""
        with self._looking:
            if self._ended:
                return
            try:
                self._look_further(desired, operations)
            except (LabError, OSError) as error:
                why = error.message if isinstance(error, LabError) else error.strerror
                self._recorder.lost.append(f"some of what a change brought ({why})")
        forgot = tuple(op.node.name for op in operations if isinstance(op, ResetNode))
        what = [told(change, desired) for change in changes]
        self._began = (desired, forgot, time.time_ns(), what or [("", "the lab was changed")])

    def end(self) -> None:
        """Let the recorder alone from here on; it may be closed."""
        with self._looking:
            self._ended = True

    def _look_further(self, desired: Plan, operations: Sequence[AnyOperation]) -> None:
        """Record what will pass, and keep the rules that will go."""
        found = way(desired, *self._ends)
        self._addresses = tuple(dict.fromkeys((*self._addresses, *own_addresses(desired, found))))
        there = {node.name for node in self._plan.nodes}
        nodes = [node for node in desired.nodes if node.name in found.nodes and node.name in there]
        ruled = {op.node.name for op in operations if isinstance(op, _REPLACING)}
        self._recorder.keep(ruled & {node.name for node in nodes})
        self._recorder.widen(nodes, self._addresses)

    def account(self) -> tuple[Happened, ...]:
        """What happened, each as of when the kernel did it; for when the recording has ended."""
        return tuple(
            msgspec.structs.replace(one, began_ns=self._moment(one)) for one in self._happened
        )

    def _moment(self, one: Happened) -> int:
        """When a change took effect first: at a router that forgets, with its rules."""
        commits = (at for name in one.forgot for at in self._recorder.commits(name))
        return min(
            (at for at in commits if one.began_ns <= at <= one.ended_ns), default=one.began_ns
        )

    @property
    def happened(self) -> bool:
        """Whether anything was changed so far."""
        return bool(self._happened)

    def after(self) -> None:
        """The change that `before` was told of is made, or has failed."""
        if self._began is None:
            return
        plan, forgot, began_ns, what = self._began
        self._began = None
        self._happened.append(
            Happened(
                began_ns=began_ns,
                ended_ns=time.time_ns(),
                what=tuple(what),
                plan=None if plan is self._plan else plan,
                forgot=forgot,
            )
        )
        self._plan = plan
        self.tell()


def _nobody() -> None:
    """Nobody wants to know."""
