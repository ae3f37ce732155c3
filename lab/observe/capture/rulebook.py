"""The rules of a namespace by the handles that the kernel calls them by.

`nft` prints handles, and rules that iptables-nft loaded in part only; what is
missing is in iptables-save, which prints the rules of each chain in the same
order.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator

from lab.fabric.rules.standing import OBSERVERS
from lab.observe.explain.events import Rule

_TABLE = re.compile(r"^table (\S+ \S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_RULE = re.compile(r"^\t\t(.+) # handle (\d+)$")
_COMMENT = re.compile(r'(?: -m comment)? (?:--)?comment "((?:[^"\\]|\\.)*)"')
_BARE_COMMENT = re.compile(r" -m comment --comment (\S+)")
_SAVED = (("ip", "iptables-nft-save"), ("ip6", "ip6tables-nft-save"))


def rules_of(node: str) -> tuple[Rule, ...]:
    """The rules of the calling thread's namespace, which is that of `node`; none if none stand."""
    listed = _output("nft", "-a", "-s", "-t", "list", "ruleset")
    saved: dict[tuple[str, str], list[str]] = {}
    for family, program in _SAVED:
        if f"table {family} " in listed:
            saved |= saved_rules(family, _output(program))
    return tuple(parsed(node, listed, saved))


def parsed(node: str, listed: str, saved: dict[tuple[str, str], list[str]]) -> Iterator[Rule]:
    """The rules in what nft prints, in the words of iptables-save where it knows them."""
    table = chain = ""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for line in listed.splitlines():
        if found := _TABLE.match(line):
            table = found[1]
        elif found := _CHAIN.match(line):
            chain = found[1]
        elif (found := _RULE.match(line)) and chain and table != OBSERVERS:
            place = (table, chain)
            known = saved.get(place, [])
            index = seen[place]
            seen[place] += 1
            text = known[index] if index < len(known) else found[1]
            yield _rule(node, table, chain, int(found[2]), text)
        elif line == "\t}":
            chain = ""


def saved_rules(family: str, text: str) -> dict[tuple[str, str], list[str]]:
    """The rules in what iptables-save prints, by table and chain, in their order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = f"{family} {line[1:]}"
        elif line.startswith("-A "):
            found[table, line.split(" ", 2)[1]].append(line)
    return found


def _rule(node: str, table: str, chain: str, handle: int, text: str) -> Rule:
    comment = _COMMENT.search(text) or _BARE_COMMENT.search(text)
    if comment:
        text = text[: comment.start()] + text[comment.end() :]
    return Rule(
        node=node,
        table=table,
        chain=chain,
        handle=handle,
        text=" ".join(text.split()),
        comment=comment[1].removeprefix("lab: ") if comment else "",
    )


def _output(program: str, *arguments: str) -> str:
    """What it prints; nothing if it is not there or fails: rules then have no words."""
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
