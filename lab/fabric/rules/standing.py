"""What stands in the kernel now, read in the namespace that the calling thread is in.

What a rule set should be is `render`; this is what it is, whoever loaded it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError, MissingError
from lab.fabric.rules import nftables
from lab.topology.behaviour import Dependence

_BY_IPTABLES = frozenset({"ip filter", "ip nat", "ip mangle", "ip raw", "ip6 filter"})
OBSERVERS = "inet lab_explain"
"""A table by which packets are observed; it decides nothing and stands for moments only."""
_NOT_OURS = _BY_IPTABLES | {OBSERVERS}
BY_PROGRAMS = frozenset({"inet upnp"})
"""Tables that a program in the node fills."""
_COUNTERS = re.compile(r"\[\d+:\d+\]")
_BLOCK = re.compile(r"^\t(map|set|chain) (\S+) \{\n((?:\t\t.*\n)*)\t\}\n", re.MULTILINE)
_KINDS = {
    Dependence.ENDPOINT_INDEPENDENT: "source",
    Dependence.ADDRESS_DEPENDENT: "address",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "flow",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """The rules of a namespace, as the tools print them; empty where there are none."""

    ip4: str
    """As iptables-save prints it."""
    ip6: str
    nft: tuple[tuple[str, str], ...]
    """The other tables, by family and name, without what they learned."""

    @property
    def empty(self) -> bool:
        """Whether no rules stand there."""
        return not (self.ip4 or self.ip6 or self.nft)

    def same(self, other: Standing) -> bool:
        """Whether packets meet the same rules in both, but for those of programs."""
        return (self.ip4, self.ip6) == (other.ip4, other.ip6) and _rules(self) == _rules(other)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping that a NAT holds now."""

    protocol: str
    inside: str
    """Inside endpoint, `192.168.1.2:5000`."""
    external_port: int
    towards: str = ""
    """The destination that it is for: an address, an endpoint, or empty for all."""
    timeout_s: int = 0
    """How long it lives without a packet."""
    expires_s: int = 0
    """In how many seconds it ends if nothing comes."""

    @property
    def idle_s(self) -> int:
        """How many seconds ago the last packet passed."""
        return max(self.timeout_s - self.expires_s, 0)


def standing() -> Standing:
    """The rules of the calling thread's namespace.

    Raises MissingError without iptables or nftables, LabError if they fail.
    """
    others = [table for table in nftables.tables() if table not in _NOT_OURS]
    return Standing(
        ip4=_saved("iptables-nft-save"),
        ip6=_saved("ip6tables-nft-save"),
        nft=tuple(
            (table, _output("nft", "-s", "-t", "list", "table", *table.split())) for table in others
        ),
    )


def mappings(kind: Dependence) -> tuple[Mapping, ...]:
    """The mappings of the NAT in the calling thread's namespace, by protocol and inside endpoint.

    Those of another `kind` than the NAT has now translate nothing any more.
    Raises LabError if nftables fails, MissingError without it.
    """
    if "ip lab" not in nftables.tables():
        return ()
    listed = nftables.listing("list maps")
    found = [
        _mapping(protocol, element)
        for memory in (entry.get("map", {}) for entry in listed)
        for protocol in ("tcp", "udp")
        if memory.get("name") == f"{protocol}_by_{_KINDS[kind]}"
        for element in memory.get("elem", ())
    ]
    return tuple(sorted(found, key=lambda one: (one.protocol, one.inside, one.towards)))


def _mapping(protocol: str, element: Any) -> Mapping:
    """An element as libnftables-json(5) writes it: key and value, each with or without extras."""
    key, port = element
    extras: dict[str, Any] = {}
    if isinstance(key, dict) and "elem" in key:
        extras = key["elem"]
        key = extras["val"]
    address, source, *destination = key["concat"]
    return Mapping(
        protocol=protocol,
        inside=f"{address}:{source}",
        external_port=int(port),
        towards=":".join(map(str, destination)),
        timeout_s=int(extras.get("timeout", 0)),
        expires_s=int(extras.get("expires", 0)),
    )


def _rules(standing: Standing) -> dict[str, frozenset[str]]:
    """The blocks of each other table that packets can meet, in whatever order they were made.

    A NAT before this one left maps that nothing refers to and chains that are
    empty.
    """
    return {
        table: frozenset(_blocks(text)) for table, text in standing.nft if table not in BY_PROGRAMS
    }


def _blocks(text: str) -> Iterator[str]:
    for found in _BLOCK.finditer(text):
        kind, name, body = found.groups()
        idle = not body.strip() if kind == "chain" else not re.search(rf"@{name}\b", text)
        if not idle:
            yield found[0]


def _saved(program: str) -> str:
    """The rules without dates, counters, and tables that nothing stands in."""
    lines = [
        _COUNTERS.sub("[0:0]", line)
        for line in _output(program).splitlines()
        if line and not line.startswith("#")
    ]
    text, block = "", list[str]()
    for line in lines:
        block.append(line)
        if line == "COMMIT":
            if any(each.startswith("-A") for each in block):
                text += "\n".join(block) + "\n"
            block = []
    return text


def _output(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingError(
            f"this machine has no {program}",
            remedy="Install it: apt-get install iptables nftables",
        )
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{program} failed: {done.stderr.strip()}")
    return done.stdout


def as_text(standing: Standing) -> str:
    """What stands there, for a person who knows iptables and nft."""
    parts = (
        ("# iptables-save", standing.ip4),
        ("# ip6tables-save", standing.ip6),
        *((f"# nft list table {table}", text) for table, text in standing.nft),
    )
    return "\n".join(f"{head}\n{text}" for head, text in parts if text)
