"""Which links there are, what they are like, and what carries them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from lab.errors import MissingError
from lab.plan.history import History
from lab.plan.machine import Machine
from lab.plan.model import End, Link
from lab.plan.names import HOST_UPLINK, LAN, WAN, Macs, port_names, segment_name
from lab.plan.tree import Attached, Tree
from lab.topology.behaviour import Backend, Impairment
from lab.topology.model import INTERNET, InternetSpec, LinkSpec, RouterSpec, WantedBackend


def uplink_of(spec: Attached) -> str:
    """The interface by which `spec` is attached."""
    return WAN if isinstance(spec, RouterSpec) else HOST_UPLINK


def has_segment(tree: Tree, router: str, history: History) -> bool:
    """Whether a LAN is a shared segment rather than a direct wire to its one member.

    It stays one when its members leave: replacing it would cut off the last.
    A LAN without members is one as well, so that the router has its LAN side.
    """
    return len(tree.members[router]) != 1 or router in history.segments


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
            core = internet.transit
            interface = ports[INTERNET][spec.name]
        elif (segment := segment_name(spec.via)) in ports:
            node, interface = segment, ports[segment][spec.name]
        wire = Link(a=end(spec.name, uplink_of(spec)), b=end(node, interface), core=core)
        link = shaped(wire, spec.link, netem=machine.netem)
        if link is None:
            raise MissingError(
                f"the link of {spec.name} asks for the kernel backend, but there is no netem",
                remedy=(
                    "Leave `backend` at auto to have the link carried in user space, or get "
                    "the module sch_netem (`lab doctor` says how)."
                ),
                where=spec.where,
            )
        yield link
        if isinstance(spec, RouterSpec) and segment_name(spec.name) in ports:
            yield plain(spec)


def port_tables(tree: Tree, history: History) -> dict[str, dict[str, str]]:
    """The interface names of the internet and of each segment, by node and attached node."""
    tables = {}
    if attached := tree.members[INTERNET]:
        tables[INTERNET] = port_names([spec.name for spec in attached])
    for router in tree.routers:
        if has_segment(tree, router, history):
            members = [spec.name for spec in tree.members[router]]
            tables[segment_name(router)] = port_names([router, *members])
    return tables


def shaped(link: Link, spec: LinkSpec, *, netem: bool) -> Link | None:
    """`link` with the character that `spec` gives it; None if `spec` demands what can't be had.

    What carries it stays the ferry, if it is: another wire would cut off both ends.
    """
    up, down = after(spec.up, link.core), after(link.core, spec.down)
    backend = _backend(spec.backend, up, down, netem=netem)
    if backend is None:
        return None
    if link.backend is Backend.FERRY and spec.backend is not WantedBackend.KERNEL:
        backend = Backend.FERRY
    return replace(
        link,
        a_to_b=up,
        b_to_a=down,
        mtu=spec.mtu,
        backend=backend,
        preset=spec.preset,
        spec=spec,
    )


def after(first: Impairment, second: Impairment) -> Impairment:
    """One impairment that is like passing `first` and then `second`.

    Delays add up, the narrower rate holds, and a packet survives both losses
    or none.
    """
    return Impairment(
        rate_bit=min(first.rate_bit or second.rate_bit, second.rate_bit or first.rate_bit),
        delay_us=first.delay_us + second.delay_us,
        loss=round(1 - (1 - first.loss) * (1 - second.loss), 12),
    )


def notes(links: tuple[Link, ...], machine: Machine) -> Iterator[str]:
    """What was decided about link backends, for people."""
    ferried = sum(link.backend is Backend.FERRY for link in links)
    if ferried and not machine.netem:
        what = "1 link is" if ferried == 1 else f"{ferried} links are"
        yield f"{what} carried by the user-space ferry: this kernel has no netem"


def _backend(
    wanted: WantedBackend, up: Impairment, down: Impairment, *, netem: bool
) -> Backend | None:
    """What carries a link; None if that which is wanted can't."""
    if up.none and down.none:
        return Backend.PLAIN
    # The token bucket that limits rates is in every kernel; delay and loss need netem.
    by_kernel = netem or not (up.delay_us or down.delay_us or up.loss or down.loss)
    match wanted:
        case WantedBackend.FERRY:
            return Backend.FERRY
        case WantedBackend.KERNEL if not by_kernel:
            return None
        case _:
            return Backend.KERNEL if by_kernel else Backend.FERRY
