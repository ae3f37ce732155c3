"""Which links there are, what they are like, and what carries them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from lab.errors import MissingError
from lab.plan.backends import kernel_cannot, kernel_lacks
from lab.plan.history import History
from lab.plan.machine import Machine
from lab.plan.model import End, Link
from lab.plan.names import (
    HOST_UPLINK,
    LAN,
    WAN,
    Macs,
    core_name,
    core_region,
    port_names,
    segment_name,
)
from lab.plan.tree import Attached, Tree
from lab.topology.character import Backend, Impairment
from lab.topology.model import INTERNET, InternetSpec, LinkSpec, RouterSpec, WantedBackend


def uplink_of(spec: Attached) -> str:
    """The interface by which `spec` is attached."""
    return WAN if isinstance(spec, RouterSpec) else HOST_UPLINK


def has_segment(tree: Tree, router: str, history: History) -> bool:
    """Whether a LAN is a shared segment rather than a direct wire to its one member.

    It stays one when its members leave: replacing it would cut off the last.
    A LAN without members is one as well, so that the router has its LAN side,
    and so is one that hosts roam from or to: nobody else notices then.
    """
    alone = len(tree.members[router]) == 1 and router not in tree.roamed
    return not alone or router in history.segments


def links_of(
    tree: Tree,
    ports: dict[str, dict[str, str]],
    internet: InternetSpec,
    machine: Machine,
) -> Iterator[Link]:
    """All links: of each router its uplink and, if its LAN is a segment, its LAN side; then hosts'.

    `ports` are the interface names in the internet and in segments, by node.
    """
    macs = Macs()

    def end(node: str, interface: str) -> End:
        return End(node=node, interface=interface, mac=macs.give(node, interface))

    def plain(spec: RouterSpec) -> Link:
        segment = segment_name(spec.name)
        return Link(
            a=end(spec.name, LAN),
            b=end(segment, ports[segment][spec.name]),
            mtu=max((member.link.mtu for member in tree.members[spec.name]), default=1500),
        )

    for spec in tree.attached:
        core = Impairment()
        node, interface = spec.via, LAN
        if spec.via == INTERNET:
            node, core = core_name(spec.region), _transit(internet, spec.region)
            interface = ports[node][spec.name]
        elif (segment := segment_name(spec.via)) in ports:
            node, interface = segment, ports[segment][spec.name]
        elif spec.via in tree.switches:
            interface = ports[spec.via][spec.name]
        wire = Link(a=end(spec.name, uplink_of(spec)), b=end(node, interface), core=core)
        link = shaped(wire, spec.link, netem=machine.netem, seed=machine.netem_seed)
        if link is None:
            raise _missing(spec, core, netem=machine.netem)
        yield link
        if isinstance(spec, RouterSpec) and segment_name(spec.name) in ports:
            yield plain(spec)
    if internet.regions is None:
        return
    for one, other in between_cores(tree):
        wire = Link(a=end(one, ports[one][other]), b=end(other, ports[other][one]))
        distance = internet.regions.between(core_region(one), core_region(other))
        if link := shaped(wire, distance, netem=machine.netem, seed=machine.netem_seed):
            yield link


def cores(tree: Tree) -> dict[str, tuple[Attached, ...]]:
    """The parts of the internet, each with what is attached to it, in order of declaration."""
    found: dict[str, list[Attached]] = {}
    for spec in tree.members[INTERNET]:
        found.setdefault(core_name(spec.region), []).append(spec)
    return {name: tuple(specs) for name, specs in found.items()}


def between_cores(tree: Tree) -> Iterator[tuple[str, str]]:
    """Each pair of parts of the internet, the later one first."""
    names = list(cores(tree))
    for place, other in enumerate(names):
        for one in names[place + 1 :]:
            yield one, other


def _transit(internet: InternetSpec, region: str) -> Impairment:
    if internet.regions is None:
        return internet.transit
    return replace(internet.transit, delay_us=internet.regions.access_us(region))


def port_tables(tree: Tree, history: History) -> dict[str, dict[str, str]]:
    """The interface names of the internet, of segments and switches, by attached node."""
    tables = {}
    parts = cores(tree)
    for core, attached in parts.items():
        others = [other for other in parts if other != core]
        tables[core] = port_names([*(spec.name for spec in attached), *others])
    for router in tree.routers:
        if has_segment(tree, router, history):
            members = [spec.name for spec in tree.members[router]]
            tables[segment_name(router)] = port_names([router, *members])
    for switch in tree.switches:
        tables[switch] = port_names([spec.name for spec in tree.members[switch]])
    return tables


def shaped(
    link: Link, spec: LinkSpec, *, netem: bool, seed: bool = True, splice: bool = False
) -> Link | None:
    """`link` with the character that `spec` gives it; None if `spec` demands what can't be had.

    `netem`, `seed` and `splice` are what `Machine` says of the kernel, the
    last only for a link that is in use.
    """
    up, down = after(spec.up, link.core), after(link.core, spec.down)
    backend = _backend(spec.backend, up, down, netem=netem, seed=seed)
    if backend is None:
        return None
    fresh = replace(
        link,
        a_to_b=up,
        b_to_a=down,
        mtu=spec.mtu,
        backend=backend,
        preset=spec.preset,
        spec=spec,
        spliced=False,
    )
    return on_wire_of(link, fresh, splice=splice)


def on_wire_of(before: Link, after: Link, *, splice: bool) -> Link:
    """`after`, carried on the wire of `before` if it can be: another would cut off both ends.

    Two TAPs stay the ferry's, unless the kernel is demanded; into a pair of
    veths the ferry is spliced, where `splice` says that it can be.
    """
    if before.on_veth:
        return replace(after, spliced=after.backend is Backend.FERRY and splice)
    if after.on_veth and after.spec.backend is not WantedBackend.KERNEL:
        return replace(after, backend=Backend.FERRY, spliced=False)
    return after


def after(first: Impairment, second: Impairment) -> Impairment:
    """One impairment that is like passing `first` and then `second`.

    Delays add up, the narrower rate holds, and a packet survives both losses
    or none.  What else there is must be of one of the two: a core has a rate,
    a delay and a loss, and no more.
    """
    rich = second if _is_simple(first) else first
    rates = [way.rate_bit for way in (first, second) if way.rate_bit]
    return replace(
        rich,
        # A trace is the bottleneck, whatever rate comes with it.
        rate_bit=0 if rich.trace else min(rates, default=0),
        delay_us=first.delay_us + second.delay_us,
        loss=round(1 - (1 - first.loss) * (1 - second.loss), 12),
    )


def _is_simple(way: Impairment) -> bool:
    return way == Impairment(rate_bit=way.rate_bit, delay_us=way.delay_us, loss=way.loss)


def notes(links: tuple[Link, ...], machine: Machine) -> Iterator[str]:
    """What was decided about link backends, and why, for people."""
    netem, seed = machine.netem, machine.netem_seed
    reasons = Counter(
        reason
        for link in links
        if link.backend is Backend.FERRY
        for reason in _lacks((link.a_to_b, link.b_to_a), netem=netem, seed=seed)[:1]
    )
    for reason, count in reasons.items():
        what = "1 link is" if count == 1 else f"{count} links are"
        yield f"{what} carried by the user-space ferry: {reason}"


def _lacks(ways: Iterable[Impairment], *, netem: bool, seed: bool) -> list[str]:
    """Why not the kernel."""
    reasons = (kernel_lacks(way, netem=netem, seed=seed) for way in ways)
    return [reason for reason in reasons if reason]


def _backend(
    wanted: WantedBackend, up: Impairment, down: Impairment, *, netem: bool, seed: bool
) -> Backend | None:
    """What carries a link; None if that which is wanted can't."""
    if up.none and down.none:
        return Backend.PLAIN
    match wanted:
        case WantedBackend.FERRY:
            return Backend.FERRY
        case WantedBackend.KERNEL:
            cannot = any(kernel_cannot(way, netem=netem) for way in (up, down))
            return None if cannot else Backend.KERNEL
        case _:
            return Backend.FERRY if _lacks((up, down), netem=netem, seed=seed) else Backend.KERNEL


def _missing(spec: Attached, core: Impairment, *, netem: bool) -> MissingError:
    ways = (after(spec.link.up, core), after(core, spec.link.down))
    reasons = (kernel_cannot(way, netem=netem) for way in ways)
    remedy = "Leave `backend` at auto to have the link carried in user space"
    if not netem:
        remedy += ", or get the module sch_netem (`lab doctor` says how)"
    return MissingError(
        f"the link of {spec.name} asks for the kernel backend, but "
        + next(reason for reason in reasons if reason),
        remedy=f"{remedy}.",
        where=spec.where,
    )
