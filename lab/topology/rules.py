"""Firewall rules in their short form: `tcp/80,443`, `drop udp`, `tcp/443 to 45.0.0.0/8`.

The grammar, blanks between words, case of no matter:

    rule       [verdict] protocol["/" ports] ["to" remote | "from" remote]
    verdict    accept (unless told) | drop | reject
    protocol   tcp | udp | icmp | any | established
    ports      port | port "-" port, several of them with commas
    remote     an address or a prefix, IPv4 or IPv6
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from lab.topology.behaviour import Direction, PortSpan, Rule, Verdict
from lab.topology.problems import WrongValueError, nearest, show

Preposition = Literal["to", "from"]
"""`to` in an outbound rule, `from` in an inbound one: the far side either way."""

RULE_HELP = (
    "rules: tcp/80,443, udp/53, tcp/8000-8999, udp, icmp, any, tcp/443 to 45.0.0.0/8 "
    "(inbound: from), each with drop or reject before it to refuse"
)
ESTABLISHED = "established"
PROTOCOLS = ("any", "tcp", "udp", "icmp", ESTABLISHED)
MAX_PORTS = 15
"""What one rule of iptables can compare, a range counting two (iptables-extensions, multiport)."""

_RULE = re.compile(
    r"(?:(?P<verdict>[a-z]+)\s+)?(?P<protocol>[a-z]+)(?:/(?P<ports>[^\s]+))?"
    r"(?:\s+(?P<preposition>to|from)\s+(?P<remote>\S+))?",
    re.ASCII,
)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def parse_rule(value: Any, preposition: Preposition) -> Rule:
    """The rule that `value` writes; raises WrongValueError."""
    match = _RULE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError(f"{show(value)} is not a firewall rule", RULE_HELP)
    verdict, protocol = match["verdict"] or "accept", match["protocol"]
    if verdict not in list(Verdict):
        raise WrongValueError(
            f"{show(value)} begins with the unknown verdict {show(verdict)}",
            f"{nearest(verdict, list(Verdict))} verdicts: accept, drop, reject".strip(),
        )
    if protocol not in PROTOCOLS:
        raise WrongValueError(
            f"{show(value)} has the unknown protocol {show(protocol)}",
            f"{nearest(protocol, PROTOCOLS)} {RULE_HELP}".strip(),
        )
    if match["preposition"] not in (None, preposition):
        raise WrongValueError(
            f"{show(value)} says {match['preposition']}", f"in this direction it is '{preposition}'"
        )
    if protocol == ESTABLISHED and (verdict != Verdict.ACCEPT or match["remote"]):
        raise WrongValueError(
            f"{show(value)} asks for more than {ESTABLISHED} can mean",
            f"write {ESTABLISHED} alone: replies to an admitted flow always pass",
        )
    return Rule(
        verdict=Verdict(verdict),
        protocol=protocol,
        ports=_ports(value, protocol, match["ports"]),
        remote=_remote(value, match["remote"]) if match["remote"] else "",
    )


def format_rule(rule: Rule, preposition: Preposition) -> str:
    """The text that `parse_rule` reads as `rule`."""
    text = rule.protocol
    if rule.ports:
        text += "/" + ",".join(format_ports(span) for span in rule.ports)
    if rule.remote:
        text += f" {preposition} {rule.remote}"
    return text if rule.verdict is Verdict.ACCEPT else f"{rule.verdict} {text}"


def format_ports(span: PortSpan) -> str:
    """`80` or `8000-8999`."""
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


def decide(direction: Direction, protocol: str, port: int = 0, remote: str = "") -> Verdict:
    """What becomes of a new flow of `protocol` to `port` and the far side `remote`.

    `protocol` is `tcp`, `udp` or `icmp`.  Without `port` or `remote` only rules
    that don't ask for one can match: what holds whatever they are.
    """
    for rule in direction.rules:
        if _matches(rule, protocol, port, remote):
            return rule.verdict
    return direction.default


def parse_ports(value: Any) -> tuple[int, int]:
    """First and last port of "8000-8999" or "80"; raises WrongValueError."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _PORTS.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise WrongValueError(f"{show(value)} is not a range of ports", "write 1024-65535")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= 65535 or last > 65535:
        raise WrongValueError(f"{show(value)} has a port that is none", "ports are 1 to 65535")
    if first > last:
        raise WrongValueError(f"{show(value)} has no ports in it", f"write {last}-{first}")
    return first, last


def _matches(rule: Rule, protocol: str, port: int, remote: str) -> bool:
    if rule.protocol not in ("any", protocol):
        return False
    if rule.ports and not any(first <= port <= last for first, last in rule.ports):
        return False
    if not rule.remote:
        return True
    prefix = ipaddress.ip_network(rule.remote, strict=False)
    return bool(remote) and ipaddress.ip_address(remote) in prefix


def _ports(value: str, protocol: str, ports: str | None) -> tuple[PortSpan, ...]:
    if ports is None:
        return ()
    if protocol not in ("tcp", "udp"):
        raise WrongValueError(
            f"{show(value)} has ports, which {protocol} has not",
            f"write tcp/{ports} or udp/{ports}",
        )
    spans = tuple(map(parse_ports, ports.split(",")))
    if sum(1 if first == last else 2 for first, last in spans) > MAX_PORTS:
        raise WrongValueError(
            f"{show(value)} has too many ports",
            f"a rule holds {MAX_PORTS}, a range counting two: write several rules",
        )
    return spans


def _remote(value: str, text: str) -> str:
    try:
        return str(ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        around = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise WrongValueError(
            f"{show(value)} names {show(text)}, which is no address or prefix",
            "write an address such as 45.0.0.9 or a prefix such as 45.0.0.0/8 or 2001:db8::/32",
        ) from None
    raise WrongValueError(
        f"{show(value)} names {show(text)}, which has bits beyond its prefix", f"write {around}"
    )
