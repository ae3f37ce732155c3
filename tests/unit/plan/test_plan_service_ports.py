"""Services listen where the file says, and everybody is told."""

from __future__ import annotations

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.loader import loads


def test_services_at_ports_of_their_own():
    topology = loads(
        """
nodes:
  stun: {via: internet, service: {stun: {port: 53}}}
  meet: {via: internet, services: {rendezvous: {port: 80}, relay: {port: 443}}}
  usual: {via: internet, services: {turn: }}
  alice: {via: internet, peer: true}
""",
        "ports.yaml",
    )
    plan = compile_topology(topology, Machine(netem=True))
    program = plan.node("alice").program
    assert program is not None
    env = dict(program.env)
    ports = {
        name: [part.rpartition(":")[2] for part in env[f"LAB_{name}"].split(",")]
        for name in ("STUN", "RENDEZVOUS", "RELAY")
    }
    assert ports == {"STUN": ["53", "54"], "RENDEZVOUS": ["80"], "RELAY": ["443"]}
    relay = plan.node("usual").program
    assert relay is not None
    assert dict(relay.env)["LAB_RELAY"].endswith(":3478")
