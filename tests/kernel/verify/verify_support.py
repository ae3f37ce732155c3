"""A lab of one router whose rule set tests replace, while the plan stays what is declared."""

from __future__ import annotations

import os
import random
import string
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from lab.fabric import netns, rules
from lab.paths import LabPaths
from lab.plan.model import Node, Plan, decode
from lab.topology.behaviour import Firewall, Nat
from lab.verify import Finding, Report, verify

ONE_ROUTER = """\
name: one
internet: 0ms
routers:
  home: {nat: {preset: home, pool: 2}, lan: 192.168.1.0/24}
nodes:
  stun: {via: internet, service: stun}
  alice: {via: home, peer: true}
  bob: {via: home, peer: true}
  guarded: {via: internet, firewall: stateful, peer: true}
"""


def new_name(word: str) -> str:
    return f"t-verify-{word}-" + "".join(random.choices(string.ascii_lowercase, k=6))


def lab_command(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lab` with a state folder of the test's own, whatever its exit code."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LAB_")}
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        env=kept | {"LAB_STATE_DIR": str(state)},
        text=True,
        capture_output=True,
        timeout=110,
        check=False,
    )


@dataclass
class Running:
    """A lab that runs; `declare` and `load` are about its router."""

    paths: LabPaths
    state: Path

    @classmethod
    def up(cls, state: Path, file: str, name: str) -> Running:
        done = lab_command(state, "up", file, "--name", name, "--runtime", "process", "--quiet")
        assert done.returncode == 0, done.stderr
        return cls(LabPaths(state / name), state)

    def down(self) -> None:
        lab_command(self.state, "down", self.paths.lab, "--quiet")

    @property
    def plan(self) -> Plan:
        return decode(self.paths.plan.read_bytes())

    def with_router(self, nat: Nat | None, firewall: Firewall | None = None) -> Plan:
        """The plan, as if the router had been declared so."""
        nodes = tuple(
            replace(node, nat=nat, firewall=firewall) if node.name == "home" else node
            for node in self.plan.nodes
        )
        return replace(self.plan, nodes=nodes)

    def load(self, nat: Nat | None, firewall: Firewall | None = None) -> None:
        """Make the router be so, whatever is declared."""
        self.load_node(self.with_router(nat, firewall).node("home"))

    def load_node(self, node: Node) -> None:
        with netns.inside(self.paths.netns(node.name)):
            rules.load(rules.render(node))

    def fresh(self, nat: Nat) -> None:
        """As `load`, on a router that remembers nothing: no port is held."""
        node = self.with_router(nat).node("home")
        with netns.inside(self.paths.netns("home")):
            rules.load(rules.render(node))
            rules.reset(rules.render(node))

    def shell(self, node: str, *command: str) -> str:
        with netns.inside(self.paths.netns(node)):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def verify(
        self,
        nat: Nat | None,
        firewall: Firewall | None = None,
        *,
        slow: bool = False,
        limit_s: float = 300,
    ) -> Report:
        """Measure the router against what is declared here."""
        plan = self.with_router(nat, firewall)
        return verify(plan, self.paths, ["home"], slow=slow, limit_s=limit_s)


def different(report: Report) -> set[tuple[str, str]]:
    """Dimension and protocol of what differs."""
    return {(str(one.dimension), one.protocol) for one in report.findings if not one.ok}


def said(report: Report, dimension: str, protocol: str) -> Finding:
    (found,) = (
        one for one in report.findings if (one.dimension, one.protocol) == (dimension, protocol)
    )
    return found
