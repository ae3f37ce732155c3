"""What the declared behaviour lets one expect of a probe: pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, ip_address, ip_network
from itertools import pairwise

from msgspec.structs import replace

from lab.peer.endpoint import Endpoint
from lab.peer.stun.classify import Kind
from lab.plan.model import Node, NodeKind
from lab.topology.behaviour import Dependence, Direction, Firewall, PortPolicy, Ports, Rule, Verdict

_ORDER = tuple(Dependence)

# --- firewalls ------------------------------------------------------------


def verdict(direction: Direction, protocol: str, port: int, remote: str) -> Verdict:
    """What becomes of the first packet of a flow: `port` is its destination's."""
    for rule in direction.rules:
        if _matches(rule, protocol, port, remote):
            return rule.verdict
    return direction.default


def _matches(rule: Rule, protocol: str, port: int, remote: str) -> bool:
    # Packets of earlier flows are let through before any rule, so `established` never decides.
    if rule.protocol not in ("any", protocol):
        return False
    if rule.ports and not any(first <= port <= max(first, last) for first, last in rule.ports):
        return False
    if not rule.remote:
        return True
    network = ip_network(rule.remote, strict=False)
    address = ip_address(remote)
    return network.version == address.version and address in network


def outbound_of(node: Node) -> Direction:
    """What the firewall of `node` admits outward, all told.

    A host's admits the servers of the router above it that it is to use; a
    captive portal lets nobody out who has not accepted, and a probe never has.
    """
    firewall = node.firewall
    if firewall is None:
        return Direction()
    if node.kind is not NodeKind.HOST:
        return Direction(default=Verdict.REJECT) if firewall.portal else firewall.outbound
    rules: list[Rule] = []
    if firewall.resolver and node.resolver:
        rules += [_only(protocol, 53, node.resolver) for protocol in ("udp", "tcp")]
    if firewall.proxy and node.proxy:
        address, _, port = node.proxy.rpartition(":")
        rules.append(_only("tcp", int(port), address))
    return replace(firewall.outbound, rules=(*rules, *firewall.outbound.rules))


def _only(protocol: str, port: int, remote: str) -> Rule:
    return Rule(verdict=Verdict.ACCEPT, protocol=protocol, ports=((port, port),), remote=remote)


def far_side(rule: Rule, near: Sequence[IPv4Network]) -> tuple[str, ...]:
    """Addresses that `rule` speaks of by its remote; none if of IPv6.

    The first and the last one outside the networks that somebody is `near`:
    who has an address answers, and ends what a probe begins.
    """
    network = _far_network(rule)
    if network is None:
        return ()
    if network.prefixlen >= 31:
        return (str(network[0]),)
    first, last = 1, network.num_addresses - 2
    free = [n for n in (_beyond(network, first, near, 1), _beyond(network, last, near, -1)) if n]
    return tuple(dict.fromkeys(str(network[n]) for n in free or (first, last)))


def _beyond(network: IPv4Network, start: int, near: Sequence[IPv4Network], step: int) -> int:
    """The first place from `start` on that is in none of `near`; 0 if there is none."""
    place = start
    while 0 < place < network.num_addresses - 1:
        blocking = [one for one in near if network[place] in one]
        if not blocking:
            return place
        largest = min(blocking, key=lambda one: one.prefixlen)
        edge = largest[-1] if step > 0 else largest[0]
        place = int(edge) - int(network[0]) + step
    return 0


def speaks_of(rule: Rule, address: str) -> bool:
    """Whether `rule` names a part of the network that `address` is in."""
    network = ip_network(rule.remote, strict=False) if rule.remote else None
    if network is None or not network.prefixlen:
        return False
    far = ip_address(address)
    return far.version == network.version and far in network


def _far_network(rule: Rule) -> IPv4Network | None:
    if not rule.remote:
        return None
    network = ip_network(rule.remote, strict=False)
    return network if isinstance(network, IPv4Network) and network.prefixlen else None


def telling_ports(direction: Direction, protocol: str, spare: Sequence[int]) -> tuple[int, ...]:
    """Destination ports at which the rules for `protocol` may change their mind.

    The edges of every range and the ports beside them, then `spare`.
    """
    found: list[int] = []
    for rule in direction.rules:
        if rule.protocol in ("any", protocol):
            for first, last in rule.ports:
                found += [first, max(first, last), first - 1, max(first, last) + 1]
    return tuple(dict.fromkeys(port for port in (*found, *spare) if 1 <= port <= 65535))


# --- mapping --------------------------------------------------------------


def mapping_key(mapping: Dependence, to: Endpoint) -> Hashable:
    """What of a destination the mapping depends on (RFC 4787, section 4.1)."""
    match mapping:
        case Dependence.ENDPOINT_INDEPENDENT:
            return ()
        case Dependence.ADDRESS_DEPENDENT:
            return to.address
        case Dependence.ADDRESS_AND_PORT_DEPENDENT:
            return to


def mappings_fit(mapping: Dependence, found: Mapping[Endpoint, Hashable]) -> bool:
    """Whether external endpoints by destination are exactly what `mapping` gives."""
    groups: dict[Hashable, set[Hashable]] = {}
    for to, external in found.items():
        groups.setdefault(mapping_key(mapping, to), set()).add(external)
    once = all(len(group) == 1 for group in groups.values())
    return once and len(set().union(*groups.values())) == len(groups)


def name_mapping(declared: Dependence, found: Mapping[Endpoint, Hashable]) -> str:
    """The mapping behaviour that `found` shows; where several would, `declared` is believed."""
    for mapping in (declared, *_ORDER):
        if mappings_fit(mapping, found):
            return str(mapping)
    return "mixed"


# --- filtering ------------------------------------------------------------


def admits(filtering: Dependence, asked: Endpoint, caller: Endpoint) -> bool:
    """Whether a mapping that has sent to `asked` lets `caller` in (RFC 4787, section 5)."""
    match filtering:
        case Dependence.ENDPOINT_INDEPENDENT:
            return True
        case Dependence.ADDRESS_DEPENDENT:
            return caller.address == asked.address
        case Dependence.ADDRESS_AND_PORT_DEPENDENT:
            return caller == asked


def name_filtering(asked: Endpoint, came: Mapping[Endpoint, bool]) -> str:
    """The filtering behaviour by which these callers came in or did not."""
    for filtering in _ORDER:
        if all(admits(filtering, asked, caller) == passed for caller, passed in came.items()):
            return str(filtering)
    return "mixed"


# --- ports ----------------------------------------------------------------

_MOST = 0.75
"""Share from which on a policy is called by its name: some ports may be taken already."""


def ports_words(ports: Ports) -> str:
    """A declared port policy: "random", "sequential by 2 in 5000-8999"."""
    text = str(ports.policy)
    if ports.policy is PortPolicy.SEQUENTIAL:
        text += f" by {ports.stride}"
    if (ports.first, ports.last) != (1024, 65535):
        text += f" in {ports.first}-{ports.last}"
    return f"{text}, parity" if ports.parity else text


def name_ports(
    declared: Ports,
    pairs: Sequence[tuple[int, int]],
    *,
    shared: bool,
    blocks: Callable[[], bool] | None = None,
) -> str:
    """The port policy that `pairs` of inside and external ports show, in words.

    The pairs are of one inside host, in the order in which the mappings were
    made.  `shared` says that two mappings had one port; `blocks` whether every
    subscriber kept to its own.
    """
    external = [port for _, port in pairs]
    low, high = min(external), max(external)
    within = declared.first <= low and high <= declared.last
    text = _policy(declared, pairs, blocks)
    if not within:
        text += f" in {low}-{high}"
    elif (declared.first, declared.last) != (1024, 65535):
        text += f" in {declared.first}-{declared.last}"
    if declared.parity and all(a % 2 == b % 2 for a, b in pairs):
        text += ", parity"
    return f"{text}, shared" if shared else text


def _policy(
    declared: Ports, pairs: Sequence[tuple[int, int]], blocks: Callable[[], bool] | None
) -> str:
    external = [port for _, port in pairs]
    # A port outside the range can't be kept.
    keepable = [pair for pair in pairs if declared.first <= pair[0] <= declared.last]
    kept = sum(inside == outside for inside, outside in keepable)
    if keepable and kept >= _MOST * len(keepable):
        return str(PortPolicy.PRESERVE)
    stride = _stride(external)
    if stride:
        return f"{PortPolicy.SEQUENTIAL} by {stride}"
    if declared.policy is PortPolicy.BLOCK and blocks is not None:
        return str(PortPolicy.BLOCK) if blocks() else f"{PortPolicy.RANDOM}, not in blocks"
    span = declared.last - declared.first + 1
    spread = max(external) - min(external)
    # 16 draws stay within a quarter of their range once in a hundred million times.
    if len(external) >= 12 and span > 64 and spread < span / 4:
        return f"{PortPolicy.RANDOM} in {min(external)}-{max(external)} only"
    return str(PortPolicy.RANDOM)


def _stride(external: Sequence[int]) -> int:
    """The constant step between mappings; 0 if there is none."""
    steps = [b - a for a, b in pairwise(external)]
    if len(steps) < 3:
        return 0
    usual = max(set(steps), key=steps.count)
    small = 0 < usual <= 64
    return usual if small and steps.count(usual) >= _MOST * len(steps) else 0


# --- classes --------------------------------------------------------------


def effective_filtering(
    filtering: Dependence, firewall: Firewall | None, protocol: str, remote: str, port: int
) -> Dependence:
    """Filtering of a NAT with a firewall behind it, which admits all strangers or none."""
    if firewall is None or verdict(firewall.inbound, protocol, port, remote) is Verdict.ACCEPT:
        return filtering
    return Dependence.ADDRESS_AND_PORT_DEPENDENT


def most_restrictive(values: Iterable[Dependence]) -> Dependence:
    """What several in a row amount to: each can only add to what a mapping depends on."""
    return max(values, key=_ORDER.index, default=Dependence.ENDPOINT_INDEPENDENT)


def kind(mapping: str, filtering: str, *, translated: bool = True) -> Kind | str:
    """RFC 3489's word for a mapping and a filtering behaviour in RFC 4787's words."""
    independent = str(Dependence.ENDPOINT_INDEPENDENT)
    if not translated:
        return Kind.OPEN if filtering == independent else Kind.FIREWALL
    if "mixed" in (mapping, filtering):
        return "mixed"
    # Its tree looks at filtering first.
    if filtering == independent:
        return Kind.FULL_CONE
    if mapping != independent:
        return Kind.SYMMETRIC
    if filtering == Dependence.ADDRESS_DEPENDENT:
        return Kind.RESTRICTED_CONE
    return Kind.PORT_RESTRICTED_CONE
