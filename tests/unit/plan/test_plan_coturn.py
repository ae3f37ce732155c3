"""The real coturn in a plan: told of, configured and known by its certificate, from the seed."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.model import NodeSpec, Topology


def plan(seed: int = 1):
    nodes = (
        NodeSpec(name="relay", via="internet", services=("coturn",)),
        NodeSpec(name="alice", via="internet", peer=True),
    )
    return compile_topology(Topology(name="t", nodes=nodes, seed=seed), Machine())


def test_peers_are_told_of_it_and_of_its_certificate():
    found = plan()
    relay, alice = found.node("relay"), found.node("alice")
    told = dict(alice.program.env)
    (daemon,) = relay.daemons
    files = dict(daemon.files)
    address = relay.interfaces[0].addresses[0].partition("/")[0]
    assert relay.program is None
    assert told["LAB_RELAY"] == f"{address}:3478"
    assert told["LAB_RELAY_TLS"] == f"{address}:5349"
    assert f"user={told['LAB_RELAY_USER']}:{told['LAB_RELAY_PASSWORD']}" in files["turnserver.conf"]
    assert f"listening-ip={address}" in files["turnserver.conf"]
    certificate = x509.load_pem_x509_certificate(files["certificate.pem"].encode())
    whole = certificate.public_bytes(serialization.Encoding.DER)
    assert hashlib.sha256(whole).hexdigest() == told["LAB_RELAY_PIN"]
    key = serialization.load_pem_private_key(files["key.pem"].encode(), None)
    assert key.public_key() == certificate.public_key()


def test_it_is_the_same_for_the_same_seed_only():
    assert plan(1) == plan(1)
    assert plan(1).node("relay").daemons != plan(2).node("relay").daemons
