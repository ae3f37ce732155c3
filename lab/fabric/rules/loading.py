"""From a rule set to the kernel, in the namespace that the calling thread is in.

Each table is replaced in one transaction: a packet meets the old rules or the
new ones, never none, and conntrack keeps every flow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import BinaryIO

from lab.errors import LabError, MissingError
from lab.fabric import sysctls
from lab.fabric.rules import conntrack, nftables
from lab.fabric.rules.ruleset import RuleSet

_DOWN = """
add table ip lab
delete table ip lab
table ip lab {
    # Before conntrack sees anything.
    chain down {
        type filter hook prerouting priority raw
        drop comment "the router restarts"
    }
}
"""
_END = "\nCOMMIT\n"
_OURS = frozenset(
    {"ip filter", "ip nat", "ip lab", "inet upnp", "ip6 filter", "ip6 nptv6", "inet portal"}
)


def load(
    rules: RuleSet,
    *,
    former: RuleSet | None = None,
    write: Callable[[Sequence[sysctls.Setting], str], None] = sysctls.apply,
) -> None:
    """Make `rules` the whole rule set of the calling thread's namespace.

    `former` is what is known to stand there, if anything is: equal parts are
    then left alone (replacing iptables tables takes about 20 ms, all of it
    waiting).  Flows that conntrack knows and ports that mappings hold outlast
    the change.  `write` sets what are kernel settings.  Raises LabError if the
    kernel refuses, MissingError without iptables or nftables.
    """
    if former is None or former.sysctls != rules.sysctls:
        write(rules.sysctls, "the rule set")
    if ip4 := _changed(rules.ip4, former.ip4 if former else ""):
        _restore("iptables-nft-restore", ip4)
    if ip6 := _changed(rules.ip6, former.ip6 if former else ""):
        _restore("ip6tables-nft-restore", ip6)
    nft = rules.nft if former is None or former.nft != rules.nft else ""
    # Loading it empties it of what hosts asked for.
    portmap = rules.portmap if former is None or former.portmap != rules.portmap else ""
    # Deleting waits, so only what is there is deleted.
    leave = _tables(rules)
    gone = [table for table in nftables.tables() if table in _OURS and table not in leave]
    deletions = "".join(f"delete table {table}\n" for table in gone)
    script = nft + portmap + rules.portal + rules.nptv6 + deletions
    if script:
        nftables.run(script)


def reset(rules: RuleSet) -> None:
    """Forget every flow and every mapping in the calling thread's namespace, as a reboot does.

    `rules` are the ones that stand there, and stand there again afterwards.
    Nothing passes meanwhile: a packet in the middle of it would carry an old
    mapping over.  Raises LabError if the kernel refuses.
    """
    # One script, as the kernel waits for each that deletes something.
    anew = rules.portmap
    if rules.portal:
        anew += f"delete table inet portal\n{rules.portal}"
    if rules.nft:
        anew += f"delete table ip lab\n{rules.nft}"
        nftables.run(_DOWN)
        conntrack.forget()
        nftables.run(anew)
        return
    if anew:
        nftables.run(anew)
    conntrack.forget()


def flush() -> None:
    """Remove every rule, and with them what NATs learned; conntrack stays."""
    load(RuleSet())


def _changed(text: str, former: str) -> str:
    """The tables of `text` that are not in `former` as they are."""
    standing = set(_split(former))
    return "".join(table for table in _split(text) if table not in standing)


def _split(text: str) -> list[str]:
    """The tables of a text for iptables-restore, each from the end of the one before it."""
    parts = text.split(_END)
    return [part + _END for part in parts[:-1]]


def _tables(rules: RuleSet) -> set[str]:
    """The tables that `rules` consists of."""
    tables = {"ip lab"} if rules.nft else set()
    if rules.portmap:
        tables.add("inet upnp")
    if rules.portal:
        tables.add("inet portal")
    if rules.nptv6:
        tables.add("ip6 nptv6")
    for family, text in (("ip", rules.ip4), ("ip6", rules.ip6)):
        tables |= {f"{family} {line[1:]}" for line in text.splitlines() if line.startswith("*")}
    return tables


def _restore(program: str, text: str) -> None:
    # The nf_tables backend by name: a legacy one would act beside table `ip lab` unseen.
    path = shutil.which(program)
    if path is None:
        raise MissingError(
            f"this machine has no {program}, which routers and firewalls need",
            remedy="Install it: apt-get install iptables",
        )
    with _memory(text) as rules, _memory() as complaints:
        done = subprocess.run(
            [path], stdin=rules, stdout=subprocess.DEVNULL, stderr=complaints, check=False
        )
        if done.returncode == 0:
            return
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip()
    raise LabError(
        f"{program} refused a rule set: {said}",
        remedy="`lab doctor` says whether this kernel has what NATs and firewalls need.",
    )


def _memory(text: str = "") -> BinaryIO:
    """A file that is nowhere, holding `text`: cheaper than pipes and their reader."""
    file = os.fdopen(os.memfd_create("rules"), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file
