"""From a node to its rule set: pure, through the templates beside this module."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from lab.errors import LabError
from lab.fabric.rules import firewall, lifetimes, nat, nptv6
from lab.fabric.rules.ruleset import RuleSet
from lab.plan.model import Node, NodeKind
from lab.plan.names import NAT64
from lab.topology.behaviour import Direction, Nat, Rule, Unsolicited, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

_NEIGHBOUR_DISCOVERY = ("133", "134", "135", "136")
"""Router and neighbour solicitation and advertisement (RFC 4861)."""
_MARK = "0x706d6170"
"""On connections that come in by a port that a host asked for."""


def render(node: Node) -> RuleSet:
    """The rule set that makes `node` behave as its NAT and firewall say.

    Raises InputError if the NAT's ports can't be had, LabError if the node
    lacks the interfaces that the rules are about.
    """
    if not any((node.nat, node.firewall, node.firewall6, node.nptv6)):
        return RuleSet()
    six = {"firewall": node.firewall or node.firewall6}
    common: dict[str, Any] = {
        "node": node.name,
        "router": node.kind is not NodeKind.HOST,
        "wan": node.wan,
        "lan": node.lan,
        "nat": node.nat,
        "firewall": node.firewall,
        "mark": _MARK if node.nat is not None and node.port_mapping is not None else "",
        "admitted": _admitted(node),
    }
    if common["router"] and not node.wan:
        raise LabError(
            f"router {node.name} has a NAT or firewall but no outward interface",
            remedy="Attach it with `via:`.",
        )
    portal = ""
    if node.firewall is not None and node.firewall.portal and common["router"]:
        portal = _text("portal.nft.j2", common)
    ip6 = _ip6(common | six) if six["firewall"] else ""
    prefixes = _text("nptv6.nft.j2", common | nptv6.words(node.nptv6)) if node.nptv6 else ""
    if node.nat64:
        # To the NAT, who comes out of the translator is who is inside.
        common["lan"] = NAT64
    if node.nat is None:
        ip4 = _ip4(common) if node.firewall else ""
        answers = _answers(node)
        return RuleSet(ip4=ip4, ip6=ip6, portal=portal, nptv6=prefixes, sysctls=answers)
    externals = _external_addresses(node, node.nat)
    words = nat.words(
        node.nat, externals=externals, subscribers=node.subscribers, where=f"router {node.name}"
    )
    timeouts = lifetimes.sysctls(node.nat.lifetimes)
    return RuleSet(
        ip4=_ip4({**common, "externals": externals, "unsolicited": node.nat.unsolicited}),
        ip6=ip6,
        # Overloaded ports are what iptables does by itself.
        nft="" if node.nat.ports.overload else _text("nat.nft.j2", {**common, **words}),
        portmap=_text("portmap.nft.j2", common) if common["mark"] else "",
        portal=portal,
        nptv6=prefixes,
        sysctls=(*timeouts, *_answers(node)),
    )


def _answers(node: Node) -> tuple[tuple[str, str], ...]:
    """What has every refused packet answered, not one a second."""
    wall = node.firewall or node.firewall6
    refused = wall is not None and any(
        verdict is Verdict.REJECT
        for way in (wall.inbound, wall.outbound)
        for verdict in (way.default, *(rule.verdict for rule in way.rules))
    )
    six = any(":" in text for port in node.interfaces for text in port.addresses)
    four = (node.nat is not None and node.nat.unsolicited is Unsolicited.REJECT) or (
        refused and node.firewall is not None
    )
    return (
        *((("ipv4/icmp_ratelimit", "0"),) if four else ()),
        *((("ipv6/icmp/ratelimit", "0"),) if refused and six else ()),
    )


def _ip4(common: dict[str, Any]) -> str:
    return _text(
        "ip4.j2",
        {
            **common,
            **_directions(common, 4),
            "prohibited": "icmp-admin-prohibited",
            "discovery": (),
            "ping": "-p icmp -m icmp --icmp-type echo-request",
        },
    )


def _ip6(common: dict[str, Any]) -> str:
    return _text(
        "ip6.j2",
        {
            **common,
            **_directions(common, 6),
            "nat": None,
            "mark": "",
            "prohibited": "icmp6-adm-prohibited",
            "discovery": _NEIGHBOUR_DISCOVERY,
            "ping": "-p ipv6-icmp -m icmp6 --icmpv6-type 128",
        },
    )


def _directions(common: dict[str, Any], version: int) -> dict[str, tuple[str, ...]]:
    wanted = common["firewall"]
    outbound, inbound = (wanted.outbound, wanted.inbound) if wanted else (Direction(), Direction())
    proxied: tuple[str, ...] = ()
    if (
        wanted is not None
        and wanted.proxy is not None
        and common["router"]
        and any(rule.verdict is not Verdict.ACCEPT for rule in outbound.rules)
    ):
        # All but the default.
        proxied = firewall.arguments(outbound, version=version, inbound=False)[:-1]
    outbound = replace(outbound, rules=(*common["admitted"], *outbound.rules))
    return {
        "proxied": proxied,
        "outbound": firewall.arguments(outbound, version=version, inbound=False),
        "inbound": firewall.arguments(inbound, version=version, inbound=True),
    }


def _admitted(node: Node) -> tuple[Rule, ...]:
    """What a host's firewall admits besides its rules: the servers of the router above it."""
    wanted = node.firewall
    if wanted is None or node.kind is not NodeKind.HOST:
        return ()
    rules = []
    if wanted.resolver and node.resolver:
        rules += [
            Rule(verdict=Verdict.ACCEPT, protocol=protocol, ports=((53, 53),), remote=node.resolver)
            for protocol in ("udp", "tcp")
        ]
    if wanted.proxy and node.proxy:
        address, _, port = node.proxy.rpartition(":")
        span = (int(port), int(port))
        remote = address.strip("[]")
        rules.append(Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=(span,), remote=remote))
    return tuple(rules)


def _external_addresses(node: Node, nat: Nat) -> tuple[str, ...]:
    """As many as the NAT's pool has, or all that there are."""
    found = tuple(
        str(address.ip)
        for interface in node.interfaces
        if interface.name == node.wan
        for address in map(ip_interface, interface.addresses)
        if address.version == 4
    )
    if found:
        return found[: nat.pool]
    raise LabError(
        f"router {node.name} has a NAT but no IPv4 address on {node.wan}",
        remedy="Give it an `address:`, or leave it to be assigned.",
    )


def _text(template: str, words: dict[str, Any]) -> str:
    return _environment().get_template(template).render(words)


@cache
def _environment() -> Environment:
    import jinja2  # noqa: PLC0415 - 30 ms that only who renders should pay

    return jinja2.Environment(  # noqa: S701 - rule sets are not HTML
        loader=jinja2.PackageLoader("lab.fabric.rules"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
    )
