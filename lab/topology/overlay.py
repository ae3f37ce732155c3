"""What a person wrote, laid over what it changes: forms to behaviours.

Pure functions from a form and a base (a preset's behaviour, or the default)
to a behaviour.  They raise WrongValueError for choices that contradict each
other; its `at` says where.
"""

from __future__ import annotations

from msgspec.structs import replace

from lab.topology.behaviour import (
    Dependence,
    Firewall,
    Hairpin,
    Lifetimes,
    Nat,
    PortPolicy,
    Ports,
    Proxy,
    Refresh,
    Unsolicited,
    Verdict,
)
from lab.topology.character import Impairment
from lab.topology.forms.firewall import FirewallForm
from lab.topology.forms.form import Form
from lab.topology.forms.link import InternetForm, LinkForm
from lab.topology.forms.nat import LifetimesForm, NatForm, PortsForm
from lab.topology.impair import check_impairment, overlay_impairment
from lab.topology.model import InternetSpec, LinkSpec, Regions, WantedBackend
from lab.topology.problems import WrongValueError
from lab.topology.rules import decide

WEB_PORT = 80
"""Where a proxy goes for what is no tunnel (RFC 9110, section 4.2.1)."""


def overlay_nat(base: Nat, form: NatForm) -> Nat:
    """`base` with what `form` says."""
    nat = replace(
        base,
        mapping=form.mapping or base.mapping,
        filtering=form.filtering or base.filtering,
        hairpin=form.hairpin or base.hairpin,
        unsolicited=form.unsolicited or base.unsolicited,
        pool=form.pool or base.pool,
        pooling=form.pooling or base.pooling,
        sessions=form.sessions or base.sessions,
    )
    if form.ports is not None:
        nat = replace(nat, ports=overlay_ports(base.ports, form.ports))
    if form.lifetimes is not None:
        nat = replace(nat, lifetimes=overlay_lifetimes(base.lifetimes, form.lifetimes))
    if nat.lifetimes.permission_s and nat.filtering is Dependence.ENDPOINT_INDEPENDENT:
        raise WrongValueError(
            "a permission has no lifetime where everybody may come in",
            "write another filtering, or leave permission out",
            ("lifetimes", "permission"),
        )
    _check_pool(nat)
    _check_overload(nat)
    return nat


def _check_pool(nat: Nat) -> None:
    if nat.pool == 1:
        return
    if nat.unsolicited is Unsolicited.ACCEPT:
        raise WrongValueError(
            "a router with a pool of addresses can't take unsolicited packets for its own",
            "leave pool out, or write another unsolicited",
            ("pool",),
        )
    if nat.hairpin is not Hairpin.OFF and nat.filtering is not Dependence.ENDPOINT_INDEPENDENT:
        raise WrongValueError(
            "hairpinning through a pool of addresses goes with endpoint-independent filtering only",
            "write filtering: endpoint-independent, hairpin: off, or leave pool out",
            ("pool",),
        )


def _check_overload(nat: Nat) -> None:
    """Shared ports are what conntrack alone does, and so go with nothing that needs more."""
    if not nat.ports.overload:
        return
    plain = Nat(ports=nat.ports, lifetimes=nat.lifetimes)
    lifetimes = nat.lifetimes
    for key, is_plain in (
        ("mapping", nat.mapping is plain.mapping),
        ("filtering", nat.filtering is plain.filtering),
        ("hairpin", nat.hairpin is plain.hairpin),
        ("pool", nat.pool == plain.pool),
        ("lifetimes", lifetimes.refresh is Refresh.BOTH and not lifetimes.permission_s),
        ("ports", (nat.ports.first, nat.ports.last) == (1024, 65535)),
    ):
        if not is_plain:
            raise WrongValueError(
                f"a NAT that overloads ports keeps no mappings of its own, which this {key} needs",
                "leave overload out, or keep to endpoint-independent mapping, "
                "address-and-port-dependent filtering, and all ports",
                ("ports",),
            )


def overlay_ports(base: Ports, form: PortsForm) -> Ports:
    """`base` with what `form` says; another policy forgets the parameters of the former one."""
    written = form.model_fields_set
    first, last = form.range if "range" in written else (base.first, base.last)
    kept = base if "policy" not in written or form.policy is base.policy else Ports()
    ports = Ports(
        policy=form.policy if "policy" in written else base.policy,
        first=first,
        last=last,
        stride=form.stride if "stride" in written else kept.stride,
        block=form.block if "block" in written else kept.block,
        parity=form.parity if "parity" in written else kept.parity,
        overload=form.overload if "overload" in written else kept.overload,
    )
    _check_ports(ports)
    return ports


def _check_ports(ports: Ports) -> None:
    if ports.parity and ports.policy is PortPolicy.SEQUENTIAL:
        raise WrongValueError(
            "a sequence of ports keeps no parity",
            "write policy: random or preserve, or leave parity out",
            ("ports", "parity"),
        )
    if ports.parity and ports.first == ports.last:
        raise WrongValueError(
            f"one port, {ports.first}, has no even and odd ones",
            "widen the range",
            ("ports", "parity"),
        )
    if ports.overload and ports.policy is not PortPolicy.PRESERVE:
        raise WrongValueError(
            f"overloading has no meaning with {ports.policy} ports",
            "write policy: preserve, or leave overload out",
            ("ports", "overload"),
        )
    if ports.policy is PortPolicy.BLOCK and not ports.block:
        raise WrongValueError(
            "a block of ports needs a size", "write ports: {policy: block, block: 512}", ("ports",)
        )
    if ports.block > ports.last - ports.first + 1:
        raise WrongValueError(
            f"a block of {ports.block} ports does not fit into {ports.first}-{ports.last}",
            "make the block smaller or the range larger",
            ("ports", "block"),
        )
    if ports.block and ports.policy is not PortPolicy.BLOCK:
        raise WrongValueError(
            f"a block has no meaning with {ports.policy} ports",
            "write policy: block, or leave block out",
            ("ports", "block"),
        )
    if ports.stride != 1 and ports.policy is not PortPolicy.SEQUENTIAL:
        raise WrongValueError(
            f"a stride has no meaning with {ports.policy} ports",
            "write policy: sequential, or leave stride out",
            ("ports", "stride"),
        )


def overlay_lifetimes(base: Lifetimes, form: LifetimesForm) -> Lifetimes:
    """`base` with what `form` says; another `udp` forgets what was told apart from it."""
    kept = base if form.udp is None else Lifetimes()
    lifetimes = Lifetimes(
        udp_s=form.udp or base.udp_s,
        udp_one_way_s=form.udp_one_way or kept.udp_one_way_s,
        permission_s=form.permission or kept.permission_s,
        refresh=form.refresh or base.refresh,
        tcp_established_s=form.tcp_established or base.tcp_established_s,
        tcp_transitory_s=form.tcp_transitory or base.tcp_transitory_s,
    )
    for key, what, seconds in (
        ("udp-one-way", "a mapping by which nothing came in", lifetimes.udp_one_way_s),
        ("permission", "a permission", lifetimes.permission_s),
    ):
        if seconds > lifetimes.udp_s:
            raise WrongValueError(
                f"{what} can't live {seconds}s where a UDP mapping lives {lifetimes.udp_s}s",
                f"write at most {key}: {lifetimes.udp_s}s, or a longer udp",
                ("lifetimes", key),
            )
    return lifetimes


def overlay_firewall(base: Firewall, form: FirewallForm) -> Firewall:
    """`base` with the directions and servers that `form` gives, each as a whole.

    Raises WrongValueError if its own rules keep the proxy from the web.
    """
    proxy = base.proxy if form.proxy is None else form.proxy or None
    firewall = replace(
        base,
        outbound=form.outbound or base.outbound,
        inbound=form.inbound or base.inbound,
        resolver=base.resolver if form.resolver is None else form.resolver,
        proxy=Proxy() if proxy is True else proxy,
        portal=base.portal if form.portal is None else form.portal,
    )
    _check_proxy(firewall)
    return firewall


def _check_proxy(firewall: Firewall) -> None:
    if firewall.proxy is None:
        return
    others = {"resolver": 53} if firewall.resolver else {}
    others |= {"portal": WEB_PORT} if firewall.portal else {}
    for other, port in others.items():
        if firewall.proxy.port == port:
            raise WrongValueError(
                f"the proxy's port {port} is that of the {other} beside it",
                "use another one: proxy: {port: 3128}",
                ("proxy",),
            )
    # The default of `outbound` does not hold for the proxy.
    named = replace(firewall.outbound, default=Verdict.ACCEPT)
    for port in (WEB_PORT, *firewall.proxy.connect):
        if decide(named, "tcp", port) is Verdict.ACCEPT:
            continue
        raise WrongValueError(
            f"a rule refuses tcp/{port} to everybody, and so to the firewall's own proxy",
            "leave the rule out (a list that admits other things refuses it to the inside alone)"
            + (f", or take {port} out of connect" if port != WEB_PORT else ", or say proxy: false"),
            ("outbound",),
        )


def overlay_link(base: LinkSpec, form: LinkForm) -> LinkSpec:
    """`base` with what `form` says: first for both directions, then for each."""
    up, down = overlay_impairment(base.up, form), overlay_impairment(base.down, form)
    if form.up:
        up = overlay_impairment(up, form.up)
    if form.down:
        down = overlay_impairment(down, form.down)
    mtu = base.mtu if form.mtu is None else form.mtu
    check_impairment(up, mtu, form, form.up, "up")
    check_impairment(down, mtu, form, form.down, "down")
    return replace(
        base, up=up, down=down, mtu=mtu, backend=WantedBackend(form.backend or base.backend)
    )


def internet(form: InternetForm | None, where: str, regions: Regions | None) -> InternetSpec:
    """The core that `form` describes.

    A packet crosses two attachments, so each carries half of the delay, and a
    loss that makes the wanted one when met twice.
    """
    if form is None:
        return InternetSpec(where=where)
    transit = Impairment(
        rate_bit=form.rate or 0,
        delay_us=(form.delay or 0) // 2,
        loss=1 - (1 - form.loss) ** 0.5 if form.loss else 0.0,
    )
    return InternetSpec(transit=transit, regions=regions, where=where)


def only_names_preset(form: Form) -> bool:
    """Whether `form` says nothing besides its preset."""
    return form.model_fields_set <= {"preset"}
