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

from msgspec.structs import replace

from lab.errors import LabError
from lab.fabric import messages, netns, sysctls
from lab.fabric.configure import BRIDGE, configure
from lab.fabric.journal import NETNS, Journal
from lab.fabric.links.ferry import Ferry
from lab.fabric.netlink import Refusal, Request, Session
from lab.fabric.wires import Wires
from lab.paths import LabPaths
from lab.plan.model import End, Link, Node, NodeKind
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
from lab.seeds import derive
from lab.topology.behaviour import Backend, Impairment

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
        self._seed = seed
        self._journal = journal
        self._ferry = ferry
        self._wires = Wires()
        # One more than processors: there is always one that waits for the kernel.  Many more
        # only queue at its lock (RTNL).
        threads = min(8, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fabric")
        self._settings = sysctls.Writer()

    def use_ferry(self, ferry: Ferry) -> None:
        """Let `ferry` carry user-space links from here on: a changed lab may want its first one."""
        self._ferry = ferry

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
        ferried = [op for op in links if op.link.backend is Backend.FERRY]
        wired = [op for op in links if op.link.backend is not Backend.FERRY]
        for home, group in _by_home(wired).items():
            for part in _parts(group, _LINKS_AT_ONCE):
                yield partial(self._create_links, home, part)
        yield from self._each(ferried, lambda op: self._create_ferried(op.link))
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
                self._shape(link)
            case DeleteLink(link=link):
                self._delete_link(link)
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
        refusals = self._make_pairs(home, [op.link for op in group])
        each = (perf_counter() - start) / len(group)
        failure: LabError | None = None
        for operation, refusal in zip(group, refusals, strict=True):
            if refusal is None:
                start = perf_counter()
                if operation.link.backend is Backend.KERNEL or operation.link.down:
                    self._shape(operation.link)
                on_done(operation, each + perf_counter() - start)
            else:
                failure = failure or refusal.error(operation.link.name)
        if failure is not None:
            raise failure

    def _make_pairs(self, home: str, links: Sequence[Link]) -> list[Refusal | None]:
        requests: list[Request] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._inside(home))
            session = stack.enter_context(Session())
            for link in links:
                here, there = (link.a, link.b) if link.a.node == home else (link.b, link.a)
                file = netns.open_file(self._paths.netns(there.node))
                stack.callback(os.close, file)
                requests += [
                    messages.veth(_device(here, link), _device(there, link), file),
                    messages.up(here.interface),
                ]
            answers = session.ask(requests)
        return [made or raised for made, raised in zip(answers[::2], answers[1::2], strict=True)]

    def _create_ferried(self, link: Link) -> None:
        from lab.fabric.links import tap  # noqa: PLC0415 - only where a link is ferried

        ferry = self._the_ferry(link)
        with contextlib.ExitStack() as stack:
            files = []
            for end in (link.a, link.b):
                with self._inside(end.node):
                    file = tap.create(end.interface, end.mac, link.mtu)
                stack.callback(os.close, file)
                files.append(file)
            stack.pop_all()  # The ferry closes them, whatever happens.
        ferry.attach(_carried(link), *files)

    def _shape(self, link: Link) -> None:
        if link.backend is Backend.FERRY:
            self._the_ferry(link).shape(_carried(link))
            return
        from lab.fabric.links import kernel  # noqa: PLC0415 - pyroute2: only where a link is shaped

        for end, impairment, way in (
            (link.a, link.a_to_b, "a-to-b"),
            (link.b, link.b_to_a, "b-to-a"),
        ):
            with self._inside(end.node):
                if link.down:
                    kernel.cut(end.interface)
                else:
                    kernel.join(end.interface)
                    seed = derive(self._seed, "link", link.name, way)
                    kernel.shape(end.interface, impairment, seed)

    def _delete_link(self, link: Link) -> None:
        if link.backend is Backend.FERRY:
            self._the_ferry(link).detach(link.name)
            return
        for end in (link.a, link.b):
            if self._paths.netns(end.node).exists():
                with self._inside(end.node), Session() as session:
                    session.demand([messages.delete_link(end.interface)], end.node)
                return

    def _the_ferry(self, link: Link) -> Ferry:
        if self._ferry is None:
            raise LabError(f"link {link.name} needs the user-space ferry, which is not running")
        return self._ferry

    def _inside(self, node: str) -> contextlib.AbstractContextManager[None]:
        return netns.inside(self._paths.netns(node))


def _carried(link: Link) -> Link:
    """`link` as the ferry is to carry it: one that is cut loses all that enters it."""
    if not link.down:
        return link
    nothing = Impairment(loss=1.0)
    return replace(link, a_to_b=nothing, b_to_a=nothing)


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


def _device(end: End, link: Link) -> messages.Device:
    return messages.Device(end.interface, end.mac, link.mtu)
