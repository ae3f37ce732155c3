"""Plans and records by hand, and scrapes taken apart: what the observers' tests share."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from lab.plan.model import End, Interface, Link, Node, NodeKind, Plan, Program
from lab.topology.behaviour import Dependence, Firewall, Nat, PortPolicy, Ports, Runtime
from lab.topology.character import Backend, Impairment

HOME_NAT = Nat(preset="home")
SYMMETRIC_NAT = Nat(
    mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT,
    ports=Ports(policy=PortPolicy.RANDOM),
    preset="symmetric",
)
CARRIER_NAT = Nat(
    filtering=Dependence.ENDPOINT_INDEPENDENT,
    ports=Ports(policy=PortPolicy.BLOCK, block=1024),
    preset="cgnat",
)
DSL_DOWN = Impairment(rate_bit=16_000_000, delay_us=12_500, loss=0.001)
DSL_UP = Impairment(rate_bit=1_000_000, delay_us=12_500, loss=0.001)


def program(*roles: str, command: tuple[str, ...] = ()) -> Program:
    stage = 0 if roles and roles != ("peer",) else 1
    return Program(runtime=Runtime.PROCESS, roles=roles, command=command, stage=stage)


def host(name: str, address: str, *, runs: Program | None = None) -> Node:
    return Node(
        name=name,
        kind=NodeKind.HOST,
        interfaces=(Interface(name="eth0", addresses=(address,)),),
        program=runs,
    )


def router(name: str, wan: str, lan: str, *, nat: Nat, firewall: Firewall | None = None) -> Node:
    return Node(
        name=name,
        kind=NodeKind.ROUTER,
        interfaces=(
            Interface(name="wan", addresses=(wan,)),
            Interface(name="lan", addresses=(lan,)),
        ),
        forwarding=True,
        wan="wan",
        lan="lan",
        nat=nat,
        firewall=firewall,
    )


def wire(
    inner: str,
    outer: str,
    number: int,
    *,
    up: Impairment = Impairment(),  # noqa: B008 - frozen
    down: Impairment = Impairment(),  # noqa: B008 - frozen
    backend: Backend = Backend.PLAIN,
) -> Link:
    """A link between `node.interface` and `node.interface`; the first is further in."""
    ends = []
    for side, where in enumerate((inner, outer)):
        node, interface = where.split(".")
        mac = f"02:00:00:{side:02x}:{number >> 8:02x}:{number & 255:02x}"
        ends.append(End(node=node, interface=interface, mac=mac))
    return Link(a=ends[0], b=ends[1], a_to_b=up, b_to_a=down, backend=backend)


def double_nat(lab: str = "double-nat") -> Plan:
    """Two peers behind two NATs each, a shared LAN segment, and services on the internet."""
    return Plan(
        lab=lab,
        description="Two peers, each behind a home NAT behind a carrier's NAT.",
        source="topologies/double-nat.yaml",
        seed=7,
        nodes=(
            Node(
                name="internet",
                kind=NodeKind.INTERNET,
                interfaces=tuple(
                    Interface(name=f"p{i}", addresses=(f"45.0.{i}.1/30",)) for i in range(4)
                ),
                forwarding=True,
            ),
            router("carrier-a", "45.0.0.2/30", "100.64.0.1/24", nat=CARRIER_NAT),
            router("home-a", "100.64.0.2/24", "192.168.1.1/24", nat=HOME_NAT),
            router(
                "home-b",
                "45.0.1.2/30",
                "192.168.2.1/24",
                nat=SYMMETRIC_NAT,
                firewall=Firewall(preset="blocked-udp"),
            ),
            Node(name="home-b-lan", kind=NodeKind.SEGMENT),
            host("stun", "45.0.2.2/30", runs=program("stun", "rendezvous")),
            host("relay", "45.0.3.2/30", runs=program("relay")),
            host("alice", "192.168.1.2/24", runs=program("peer")),
            host("bob", "192.168.2.2/24", runs=program("peer")),
            host("printer", "192.168.2.3/24", runs=program(command=("nc", "-l", "[9100]"))),
        ),
        links=(
            wire("carrier-a.wan", "internet.p0", 0),
            wire("home-a.wan", "carrier-a.lan", 1, up=DSL_UP, down=DSL_DOWN, backend=Backend.FERRY),
            wire("home-b.wan", "internet.p1", 2, up=DSL_UP, down=DSL_DOWN, backend=Backend.FERRY),
            wire("stun.eth0", "internet.p2", 3),
            wire("relay.eth0", "internet.p3", 4),
            wire("alice.eth0", "home-a.lan", 5),
            wire("home-b.lan", "home-b-lan.r0", 6),
            wire("bob.eth0", "home-b-lan.p0", 7),
            wire("printer.eth0", "home-b-lan.p1", 8),
        ),
    )


def many_homes(count: int, lab: str = "many") -> Plan:
    """`count` homes on one internet: a NAT router and a host each."""
    nodes = [Node(name="internet", kind=NodeKind.INTERNET)]
    links = []
    for i in range(1, count + 1):
        outside = f"45.{i >> 8}.{i & 255}"
        nodes += [
            router(f"home-{i}", f"{outside}.2/30", "192.168.1.1/24", nat=HOME_NAT),
            host(f"host-{i}", "192.168.1.2/24", runs=program("peer")),
        ]
        links += [
            wire(f"home-{i}.wan", f"internet.p{i}", 2 * i, up=DSL_UP, down=DSL_DOWN),
            wire(f"host-{i}.eth0", f"home-{i}.lan", 2 * i + 1),
        ]
    return Plan(lab=lab, nodes=tuple(nodes), links=tuple(links))


def attempt(
    technique: str = "udp-punch", outcome: str = "success", local: str = "alice", **more: object
) -> dict[str, object]:
    """A record as docs/contract.md has it."""
    worked = outcome == "success"
    return {
        "technique": technique,
        "outcome": outcome,
        "reason": "" if worked else "no answer from the other side in 10 s",
        "local": local,
        "program": "lab",
        "source": "ordered",
        "remote": "bob",
        "path": ("relayed" if technique == "relay" else "direct") if worked else None,
        "local_candidate": {"kind": "server-reflexive", "endpoint": "45.0.0.2:40001"}
        if worked
        else None,
        "remote_candidate": {"kind": "server-reflexive", "endpoint": "45.0.1.2:40002"}
        if worked
        else None,
        "started_at": 1_700_000_000.0,
        "time_to_path_s": 0.0431 if worked else None,
        "rtt_before_s": 0.0512,
        "rtt_after_s": 0.0508 if worked else None,
        "jitter_s": 0.0004 if worked else None,
        "goodput_bps": 15.2e6 if worked else None,
        "packets": {"stun": 2, "rendezvous": 4, "punch": 6, "relay": 0},
        "bytes": {"stun": 120, "rendezvous": 900, "punch": 400, "relay": 0},
    } | more


def scrape(port: int, accept: str = "") -> str:
    """What an exporter on `port` answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - http, written above
        return answer.read().decode()


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values by name and sorted labels; each has a help text and is there once."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            by_labels = found.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in by_labels, f"{sample.name}{labels} twice"
            by_labels[labels] = sample.value
    return found
