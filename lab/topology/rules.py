"""Firewall rules in their short form: `tcp/80`, `drop udp`, `tcp/443 to 45.0.0.0/8`."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from lab.topology.behaviour import Rule, Verdict
from lab.topology.problems import WrongValueError, nearest, show

Preposition = Literal["to", "from"]
"""`to` in an outbound rule, `from` in an inbound one: the far side either way."""

RULE_HELP = (
    "rules: tcp/80, udp/53, tcp/8000-8999, udp, icmp, any, tcp/443 to 45.0.0.0/8 "
    "(inbound: from), each with drop or reject before it to refuse"
)
PROTOCOLS = ("any", "tcp", "udp", "icmp")

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
    first, last = _ports(value, protocol, match["ports"])
    remote = _remote(value, match["remote"]) if match["remote"] else ""
    return Rule(verdict=Verdict(verdict), protocol=protocol, first=first, last=last, remote=remote)


def format_rule(rule: Rule, preposition: Preposition) -> str:
    """The text that `parse_rule` reads as `rule`."""
    text = rule.protocol
    if rule.first:
        text += f"/{rule.first}" if rule.first == rule.last else f"/{rule.first}-{rule.last}"
    if rule.remote:
        text += f" {preposition} {rule.remote}"
    return text if rule.verdict is Verdict.ACCEPT else f"{rule.verdict} {text}"


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


def _ports(value: str, protocol: str, ports: str | None) -> tuple[int, int]:
    if ports is None:
        return 0, 0
    if protocol not in ("tcp", "udp"):
        raise WrongValueError(
            f"{show(value)} has ports, which {protocol} has not",
            f"write tcp/{ports} or udp/{ports}",
        )
    return parse_ports(ports)


def _remote(value: str, text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text)) if "/" in text else str(ipaddress.IPv4Address(text))
    except ValueError:
        pass
    try:
        around = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise WrongValueError(
            f"{show(value)} names {show(text)}, which is no IPv4 address or prefix",
            "write an address such as 45.0.0.9 or a prefix such as 45.0.0.0/8",
        ) from None
    raise WrongValueError(
        f"{show(value)} names {show(text)}, which has bits beyond its prefix", f"write {around}"
    )
