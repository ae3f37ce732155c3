"""Firewall rules as iptables arguments."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from lab.topology.behaviour import Direction, Rule, Verdict
from lab.topology.rules import ESTABLISHED, Preposition, format_rule

_TARGETS = {Verdict.ACCEPT: "ACCEPT", Verdict.DROP: "DROP", Verdict.REJECT: "refuse"}
_ICMP = {4: "icmp", 6: "ipv6-icmp"}


def arguments(direction: Direction, *, version: int, inbound: bool) -> tuple[str, ...]:
    """What follows `-A CHAIN` for each rule of `direction`, then for its default.

    Each carries the rule's text in the file as its comment.  Rules whose remote
    is of the other IP version say nothing here.
    """
    lines = [
        line
        for rule in direction.rules
        for line in _arguments(rule, version=version, inbound=inbound)
    ]
    return (*lines, f"-j {_TARGETS[direction.default]}")


def comment(text: str) -> str:
    """The match that leaves `text` in a listing for people."""
    return f'-m comment --comment "{text}"'


def _arguments(rule: Rule, *, version: int, inbound: bool) -> Iterator[str]:
    match = ""
    if rule.remote:
        network = ip_network(rule.remote, strict=False)
        if network.version != version:
            return
        match += f"{'-s' if inbound else '-d'} {network} "
    if rule.protocol == ESTABLISHED:
        match += "-m conntrack --ctstate ESTABLISHED,RELATED "
    elif rule.protocol != "any":
        protocol = _ICMP[version] if rule.protocol == "icmp" else rule.protocol
        match += f"-p {protocol} "
        match += _ports(rule, protocol)
    preposition: Preposition = "from" if inbound else "to"
    yield f"{match}{comment(format_rule(rule, preposition))} -j {_TARGETS[rule.verdict]}"


def _ports(rule: Rule, protocol: str) -> str:
    spans = [f"{first}:{last}" if last > first else str(first) for first, last in rule.ports]
    if len(spans) > 1:
        return f"-m multiport --dports {','.join(spans)} "
    return f"-m {protocol} --dport {spans[0]} " if spans else ""
