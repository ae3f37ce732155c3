"""The network of one lab: operations in, kernel state out.

`Network.carry_out` takes the operations of one phase, which are independent
of one another, and works them off on a few threads, those of one namespace
together.  Links are made from inside the namespace that has most of them: the
internet's five hundred take eight visits.

Every namespace is noted in the journal before it is made.  One that exists
and is not in the journal is somebody else's: nothing is made, and it is never
removed.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from threading import Event
from time import perf_counter
from typing import TypeVar

from lab.errors import LabError
from lab.fabric import messages, netns, sysctls
from lab.fabric.carriers import Carriers
from lab.fabric.configure import BRIDGE, configure
from lab.fabric.journal import NETNS, Journal
from lab.fabric.links.ferry import Ferry
from lab.fabric.netlink import Session
from lab.fabric.wires import Wires
from lab.paths import LabPaths
from lab.plan.model import Node, NodeKind
from lab.plan.operations import (
    AnyOperation,
    ConfigureNode,
    CreateLink,
    CreateNode,
    DeleteLink,
    DeleteNode,
    FenceNode,
    LoadRules,
    ResetNode,
    ShapeLink,
)
from lab.topology.character import Backend

OnDone = Callable[[AnyOperation, float], None]
"""Told of each operation that was carried out, with the seconds it took."""

_Op = TypeVar("_Op", bound=AnyOperation)
_Task = Callable[[OnDone], None]

_LINKS_AT_ONCE = 32
"""Two requests and one open file each."""
_NODES_AT_ONCE = 8


class Network:
    """The kernel side of one lab; every method may be called from any thread."""

    def __init__(
        self, paths: LabPaths, journal: Journal, ferry: Ferry | None = None, seed: int = 1
    ) -> None:
        """For the lab of `paths`; `ferry` carries its user-space links, if it has any.

        `seed` is the lab's: what links do by chance comes from it, where the kernel lets it.
        """
        self._paths = paths
        self._journal = journal
        self._carriers = Carriers(paths, ferry, seed)
        self._wires = Wires()
        # More than processors: some always wait for the kernel, on a busy machine most of them
        # (RCU, at a router's first rules).  Many more only queue at its lock (RTNL).
        threads = min(8, (os.cpu_count() or 1) + 3)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fabric")
        self._settings = sysctls.Writer()

    def use_ferry(self, ferry: Ferry) -> None:
        """Let `ferry` carry user-space links from here on: a changed lab may want its first one."""
        self._carriers.ferry = ferry

    def close(self) -> None:
        """End the threads; what was made stays."""
        self._pool.shutdown()
        self._settings.close()

    def carry_out(self, operations: Sequence[AnyOperation], on_done: OnDone) -> None:
        """Carry out the operations of one phase, in any order and several at once.

        `on_done` is called in the calling thread.  Raises the first LabError
        after what was under way has finished; the rest is not begun.
        """
        self.refuse_taken(op.node for op in operations if isinstance(op, CreateNode))
        self._wires.joined(op.link for op in operations if isinstance(op, CreateLink))
        self._wires.addressed(op.after for op in operations if isinstance(op, ConfigureNode))
        answers: SimpleQueue[tuple[AnyOperation, float] | BaseException | None] = SimpleQueue()
        stop = Event()

        def work(task: _Task) -> None:
            try:
                if not stop.is_set():
                    task(lambda operation, seconds: answers.put((operation, seconds)))
            except BaseException as error:
                stop.set()
                answers.put(error)
            finally:
                answers.put(None)

        tasks = list(self._tasks(operations))
        for task in tasks:
            self._pool.submit(work, task)
        failure: BaseException | None = None
        running = len(tasks)
        while running:
            try:
                match answers.get():
                    case None:
                        running -= 1
                    case (operation, seconds):
                        on_done(operation, seconds)
                    case BaseException() as error:
                        failure = failure or error
            except BaseException as error:
                # From on_done, or an interrupt: the threads still have to come to rest.
                stop.set()
                failure = failure or error
        if failure is not None:
            raise failure

    def refuse_taken(self, nodes: Iterable[Node]) -> None:
        """Raise LabError if a namespace of one of `nodes` exists and is not this lab's."""
        for node in nodes:
            path = self._paths.netns(node.name)
            if not self._journal.holds(NETNS, path.name) and os.path.lexists(path):
                raise netns.taken(path)

    def adopt_node(self, node: Node, pid: int) -> None:
        """Make the network namespace of process `pid` that of `node`, and prepare it."""
        self.refuse_taken([node])
        path = self._paths.netns(node.name)
        self._claim(node, partial(netns.adopt, path, pid))

    # --- operations into tasks ----------------------------------------------

    def _tasks(self, operations: Sequence[AnyOperation]) -> Iterator[_Task]:
        """The work of `operations`, in pieces of some milliseconds."""
        links = [op for op in operations if isinstance(op, CreateLink)]
        ferried = [op for op in links if not op.link.on_veth]
        wired = [op for op in links if op.link.on_veth]
        for home, group in _by_home(wired).items():
            for part in _parts(group, _LINKS_AT_ONCE):
                yield partial(self._create_links, home, part)
        yield from self._each(ferried, lambda op: self._carriers.make_taps(op.link))
        rest = [op for op in operations if not isinstance(op, CreateLink)]
        yield from self._each(rest, self._single)

    def _each(self, operations: Sequence[_Op], step: Callable[[_Op], None]) -> Iterator[_Task]:
        def run(part: Sequence[_Op], on_done: OnDone) -> None:
            for operation in part:
                start = perf_counter()
                step(operation)
                on_done(operation, perf_counter() - start)

        for part in _parts(operations, _NODES_AT_ONCE):
            yield partial(run, part)

    def _single(self, operation: AnyOperation) -> None:
        match operation:
            case CreateNode(node=node):
                self._create_node(node)
            case DeleteNode(node=node):
                self._delete_node(node)
            case ConfigureNode(after=after, before=before):
                with self._inside(after.name):
                    configure(after, before, self._wires.neighbours(after))
            case LoadRules(node=node, before=before):
                self._load_rules(node, before)
            case ResetNode(node=node):
                self._reset(node)
            case FenceNode(node=node):
                self._fence(node)
            case ShapeLink(link=link):
                self._carriers.shape(link)
            case DeleteLink(link=link):
                self._carriers.delete(link)
            case _:
                raise TypeError(f"not an operation of the fabric: {operation!r}")

    # --- nodes ----------------------------------------------------------------

    def _create_node(self, node: Node) -> None:
        path = self._paths.netns(node.name)
        if self._journal.holds(NETNS, path.name):
            netns.delete(path)  # Ours, from an attempt that did not end well.
        self._claim(node, partial(netns.create, path))

    def _claim(self, node: Node, make: Callable[[], None]) -> None:
        """Note the node's namespace, `make` it, prepare it for what is to come."""
        name = self._paths.netns(node.name).name
        self._journal.note(NETNS, name)
        try:
            make()
        except BaseException:
            # Nothing was left behind, and the name may be somebody else's.
            self._journal.retract(NETNS, name)
            raise
        with self._inside(node.name):
            self._settings.apply(sysctls.settings(node), node.name)
            if node.kind is NodeKind.SEGMENT:
                with Session() as session:
                    session.demand([messages.bridge(BRIDGE)], node.name)

    def _delete_node(self, node: Node) -> None:
        path = self._paths.netns(node.name)
        if self._journal.holds(NETNS, path.name):
            netns.delete(path)
            self._journal.retract(NETNS, path.name)

    def _load_rules(self, node: Node, before: Node | None) -> None:
        from lab.fabric import rules  # noqa: PLC0415 - Jinja2: not before a router needs it

        loaded = rules.render(node)
        former = rules.render(before) if before is not None else None
        with self._inside(node.name):
            rules.load(loaded, former=former, write=self._settings.apply)

    def _reset(self, node: Node) -> None:
        from lab.fabric import rules  # noqa: PLC0415 - Jinja2, as above

        standing = rules.render(node)
        with self._inside(node.name):
            rules.reset(standing)

    def _fence(self, node: Node) -> None:
        from lab.fabric import fence  # noqa: PLC0415 - only for a lab that is divided

        with self._inside(node.name):
            fence.put_up(node)

    # --- links ----------------------------------------------------------------

    def _create_links(self, home: str, group: Sequence[CreateLink], on_done: OnDone) -> None:
        """Make veth pairs that have an end in `home`, from there."""
        start = perf_counter()
        refusals = self._carriers.make_pairs(home, [op.link for op in group])
        each = (perf_counter() - start) / len(group)
        failure: LabError | None = None
        for operation, refusal in zip(group, refusals, strict=True):
            if refusal is None:
                start = perf_counter()
                if operation.link.backend is not Backend.PLAIN or operation.link.down:
                    self._carriers.shape(operation.link)
                on_done(operation, each + perf_counter() - start)
            else:
                failure = failure or refusal.error(operation.link.name)
        if failure is not None:
            raise failure

    def _inside(self, node: str) -> contextlib.AbstractContextManager[None]:
        return netns.inside(self._paths.netns(node))


def _by_home(operations: Iterable[CreateLink]) -> dict[str, list[CreateLink]]:
    """Links by the end of theirs that has most links."""
    operations = list(operations)
    count = Counter(end.node for op in operations for end in (op.link.a, op.link.b))
    homes: dict[str, list[CreateLink]] = {}
    for op in operations:
        a, b = op.link.a.node, op.link.b.node
        homes.setdefault(a if count[a] >= count[b] else b, []).append(op)
    return homes


def _parts(items: Sequence[_Op], size: int) -> Iterator[Sequence[_Op]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
