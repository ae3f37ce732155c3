"""How routers translate IPv6: one prefix to another (RFC 6296), or to IPv4 (RFC 6146).

A NAT64 is two things in a row, as RFC 6146 describes its state: a stateless
translation (RFC 7915) by the real tayga, which gives each host an IPv4
address of its own that nobody outside sees, and the router's NAT, which maps
those like the addresses of any LAN.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from lab.plan.addressing import Addresses
from lab.plan.delegation import Addresses6
from lab.plan.history import History
from lab.plan.ipv4 import Prefix
from lab.plan.ipv6 import Prefix6
from lab.plan.model import Daemon, Nat64, Nptv6, Route
from lab.plan.names import NAT64
from lab.plan.nptv6 import outside
from lab.plan.tree import Attached, Tree
from lab.topology.model import RouterSpec

STAND_INS = Prefix.parse("198.18.0.0/16")
"""The IPv4 addresses of hosts between tayga and the NAT: of RFC 2544, so nobody else's."""
_OTHERS = Prefix.parse("198.18.128.0/17")
"""Those for addresses that a host gave itself."""

_TAYGA = """\
tun-device {device}
ipv4-addr {own4}
ipv6-addr {own6}
prefix {prefix}
dynamic-pool {others}
data-dir {{dir}}
"""


def nptv6_of(spec: RouterSpec, tree: Tree, six: Addresses6) -> Nptv6 | None:
    """What the router's prefix translation does to each subnet behind it."""
    if not spec.nptv6:
        return None
    internal, external = six.inside[spec.name], six.delegated[spec.name]
    lans = (six.lans[router.name] for router in _routers(spec, tree))
    return Nptv6(subnets=tuple((str(lan), str(outside(lan, internal, external))) for lan in lans))


def nat64_of(spec: RouterSpec, tree: Tree, addresses: Addresses, history: History) -> Nat64 | None:
    """The router's NAT64: an IPv4 address for each host behind it, where it had one the same."""
    if not spec.nat64:
        return None
    inside = [
        Prefix6.text(number)
        for member in _behind(spec, tree)
        for number in addresses.six.uplinks[member.name].addresses
    ]
    before = dict(history.nat64.get(spec.name, ()))
    taken = set(before.values())
    own = STAND_INS.first + 1
    free = (text for text in map(Prefix.text, count(own + 1)) if text not in taken)
    return Nat64(
        prefix=spec.nat64,
        hosts=tuple((address, before.get(address) or next(free)) for address in inside),
    )


def nat64_routes(spec: RouterSpec, addresses: Addresses) -> tuple[Route, ...]:
    """What leads to tayga: the prefix, the hosts' IPv4 addresses, and its own address."""
    if not spec.nat64:
        return ()
    own6 = _own6(spec, addresses)
    destinations = (spec.nat64, str(STAND_INS), f"{own6}/{Prefix6.bits()}")
    return tuple(Route(destination=each, interface=NAT64) for each in destinations)


def nat64_daemon(spec: RouterSpec, nat64: Nat64, addresses: Addresses) -> Daemon:
    """The translator."""
    text = _TAYGA.format(
        device=NAT64,
        own4=Prefix.text(STAND_INS.first + 1),
        own6=_own6(spec, addresses),
        prefix=nat64.prefix,
        others=_OTHERS,
    )
    text += "".join(f"map {four} {six}\n" for six, four in nat64.hosts)
    return Daemon(
        name="tayga",
        # -d keeps it in the foreground.
        command=("tayga", "-d", "--config", "{dir}/tayga.conf"),
        package="tayga",
        files=(("tayga.conf", text),),
        ready=(f"tun/{NAT64}",),
    )


def _own6(spec: RouterSpec, addresses: Addresses) -> str:
    """Tayga's own address, which its ICMPv6 errors come from: in the LAN, where no host is."""
    lan = addresses.six.lans[spec.name]
    return Prefix6.text(lan.first | 0x64 << 48 | 1)


def _routers(spec: RouterSpec, tree: Tree) -> Iterator[RouterSpec]:
    """The router and those behind it whose subnets it sees as they are."""
    yield spec
    for member in tree.members[spec.name]:
        if isinstance(member, RouterSpec) and member.ip.v6:
            if member.nptv6:
                continue
            yield from _routers(member, tree)


def _behind(spec: RouterSpec, tree: Tree) -> Iterator[Attached]:
    for router in _routers(spec, tree):
        yield from tree.members[router.name]
