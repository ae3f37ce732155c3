"""From a rule set to the kernel, in the namespace that the calling thread is in.

Each table is replaced in one transaction: a packet meets the old rules or the
new ones, never none, and conntrack keeps every flow.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lab.errors import LabError, MissingError
from lab.fabric.rules import nftables
from lab.fabric.rules.ruleset import RuleSet

_SYSCTL = Path("/proc/sys/net")


def load(rules: RuleSet) -> None:
    """Make `rules` the whole rule set of the calling thread's namespace.

    Flows that conntrack knows and ports that mappings hold outlast it.
    Raises LabError if the kernel refuses, MissingError without iptables or
    nftables.
    """
    for name, value in rules.sysctls:
        _write(name, value)
    if rules.ip4:
        _restore("iptables-nft-restore", rules.ip4)
    if rules.ip6:
        _restore("ip6tables-nft-restore", rules.ip6)
    nftables.run(rules.nft + _remove(_absent(rules)))


def flush() -> None:
    """Remove every rule, and with them what NATs learned; conntrack stays."""
    load(RuleSet())


def _absent(rules: RuleSet) -> tuple[str, ...]:
    """The tables that an earlier rule set may have left and `rules` does without."""
    tables = []
    if not rules.ip4:
        tables.append("ip filter")
    if not rules.nft:
        tables += ["ip nat", "ip lab"]
    if not rules.ip6:
        tables.append("ip6 filter")
    return tuple(tables)


def _remove(tables: tuple[str, ...]) -> str:
    # Adding first makes the deletion succeed where there was none.
    return "".join(f"add table {table}\ndelete table {table}\n" for table in tables)


def _write(name: str, value: str) -> None:
    try:
        (_SYSCTL / name).write_text(value, encoding="ascii")
    except OSError as error:
        raise LabError(
            f"can't set net/{name} to {value}: {error.strerror}",
            remedy="`lab doctor` says whether this kernel tracks connections.",
        ) from error


def _restore(program: str, text: str) -> None:
    # The nf_tables backend by name: a legacy one would act beside table `ip lab` unseen.
    path = shutil.which(program)
    if path is None:
        raise MissingError(
            f"this machine has no {program}, which routers and firewalls need",
            remedy="Install it: apt-get install iptables",
        )
    done = subprocess.run([path], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"{program} refused a rule set: {done.stderr.strip()}",
            remedy="`lab doctor` says whether this kernel has what NATs and firewalls need.",
        )
