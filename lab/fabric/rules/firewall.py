"""Firewall rules as iptables arguments."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from lab.topology.behaviour import Direction, Rule, Verdict

_TARGETS = {Verdict.ACCEPT: "ACCEPT", Verdict.DROP: "DROP", Verdict.REJECT: "refuse"}
_ICMP = {4: "icmp", 6: "ipv6-icmp"}


def arguments(direction: Direction, *, version: int, inbound: bool) -> tuple[str, ...]:
    """What follows `-A CHAIN` for each rule of `direction`, then for its default.

    Rules whose remote is of the other IP version say nothing here.
    """
    lines = [
        line
        for rule in direction.rules
        for line in _arguments(rule, version=version, inbound=inbound)
    ]
    return (*lines, f"-j {_TARGETS[direction.default]}")


def _arguments(rule: Rule, *, version: int, inbound: bool) -> Iterator[str]:
    remote = ""
    if rule.remote:
        network = ip_network(rule.remote, strict=False)
        if network.version != version:
            return
        remote = f"{'-s' if inbound else '-d'} {network} "
    target = f"-j {_TARGETS[rule.verdict]}"
    for protocol in _protocols(rule, version):
        match = f"-p {protocol} " if protocol else ""
        if rule.first:
            match += f"-m {protocol} --dport {_ports(rule)} "
        yield f"{remote}{match}{target}"


def _protocols(rule: Rule, version: int) -> tuple[str, ...]:
    if rule.protocol == "icmp":
        return (_ICMP[version],)
    if rule.protocol != "any":
        return (rule.protocol,)
    # Only TCP and UDP have ports to compare.
    return ("tcp", "udp") if rule.first else ("",)


def _ports(rule: Rule) -> str:
    return f"{rule.first}:{rule.last}" if rule.last > rule.first else str(rule.first)
