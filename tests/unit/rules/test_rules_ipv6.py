"""Rule sets of routers with IPv6, as people read them (`LAB_UPDATE_GOLDEN=1` rewrites them)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.fabric.rules import RuleSet, render
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Node
from lab.topology.loader import loads

GOLDEN = Path(__file__).parents[1] / "golden" / "rules"


def router(text: str) -> Node:
    topology = loads(f"ip: dual\nrouters: {{r: {text}}}\nnodes: {{a: {{via: r}}}}\n", "t.yaml")
    return compile_topology(topology, Machine(netem=True)).node("r")


def shown(rules: RuleSet) -> str:
    parts = (("ip4", rules.ip4), ("ip6", rules.ip6), ("nft", rules.nft), ("nptv6", rules.nptv6))
    return "\n".join(f"=== {name}\n{text}" for name, text in parts if text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ipv6-home", "{nat: home-linux}"),
        ("ipv6-nptv6", "{ip: 6, nptv6: true}"),
        ("ipv6-nptv6-open", "{ip: 6, nptv6: true, firewall: open}"),
    ],
)
def test_golden(name: str, text: str):
    found = shown(render(router(text)))
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("LAB_UPDATE_GOLDEN"):
        file.write_text(found)
    assert found == file.read_text()


def test_a_nat64_is_a_nat_for_what_comes_out_of_the_translator():
    rules = render(router("{ip: 6, nat64: true, nat: {preset: home, hairpin: true}}"))
    assert 'iifname "nat64"' in rules.nft or "nat64" in rules.nft
    assert '"lan"' not in rules.nft
    assert "INPUT -i wan" in rules.ip6, "and IPv6 has its own firewall"


def test_ipv4_alone_has_no_rules_for_ipv6():
    assert render(router("{ip: 4, nat: home}")).ip6 == ""
    assert render(router("{ip: 4}")) == RuleSet()
