"""Paths that no router keeps an entry of: they are followed by the plan alone."""

from __future__ import annotations

from pathlib import Path

from lab.paths import LabPaths
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.loader import loads
from lab.verify.proof import prove

FILE = """
name: proof
ip: dual
routers: {site: {nptv6: true}}
nodes:
  alice: {via: site, peer: true}
  carol: {via: internet, peer: true}
"""


def test_a_router_that_translates_prefixes_leaves_ipv4_alone(tmp_path: Path):
    plan = compile_topology(loads(FILE, "proof.yaml"), Machine())
    (alice,), (carol,) = (
        [text.partition("/")[0] for text in plan.node(name).interfaces[0].addresses if "." in text]
        for name in ("alice", "carol")
    )
    record = {
        "local": "alice",
        "remote": "carol",
        "transport": "udp",
        "path": "direct",
        "socket": f"{alice}:4000",
        "remote_candidate": {"kind": "host", "endpoint": f"{carol}:4000"},
    }
    found = prove(plan, LabPaths(tmp_path / "none"), record)
    assert (found.proven, found.reason) == (True, "it leads to carol")
