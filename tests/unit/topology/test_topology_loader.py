"""What a file means: terse forms, presets, counts, overrides."""

from pathlib import Path
from textwrap import dedent

import pytest

from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Lifetimes,
    Mount,
    Nat,
    PortPolicy,
    Ports,
    Rule,
    Unsolicited,
    Verdict,
)
from lab.topology.character import Impairment
from lab.topology.loader import load, loads
from lab.topology.model import Expectation, LinkSpec, WantedBackend
from lab.topology.problems import TopologyError

ENDPOINT, ADDRESS, BOTH = Dependence


def read(text, *overrides, name=None):
    return loads(dedent(text), "dir/some-file.yaml", overrides, name)


def router(topology, name):
    return next(one for one in topology.routers if one.name == name)


def node(topology, name):
    return next(one for one in topology.nodes if one.name == name)


def test_the_whole_of_a_file():
    topology = read(
        """\
        name: all
        description: Everything.
        seed: 7
        internet: {delay: 10ms, loss: 1%, rate: 1gbit}
        routers:
          home:
            nat: home
            lan: 192.168.7.0/24
            address: 45.0.0.9
        nodes:
          relay: {via: internet, service: turn}
          both: {via: internet, services: [stun, rendezvous]}
          alice: {via: home, peer: true, address: 192.168.7.20}
          bob:
            via: home
            image: example/my-peer:1
            command: run --name "my peer"
            env: {MODE: test, VERSION: 1.10, ON: true, NOTHING: }
            mounts: [/etc:/data:ro, ..:/there]
            memory: 256MB
            cpus: 0.5
            ready: signal
          carol: {via: home, command: [sleep, 10]}
        expect:
          - {from: alice, to: bob, udp-punch: timed-out, direct: failure, path: relayed}
        """
    )
    assert (topology.name, topology.description, topology.seed) == ("all", "Everything.", 7)
    transit = topology.internet.transit
    assert (transit.delay_us, transit.rate_bit) == (5_000, 10**9)
    assert 1 - (1 - transit.loss) ** 2 == pytest.approx(0.01)
    home = router(topology, "home")
    assert (home.via, home.lan, home.address) == ("internet", "192.168.7.0/24", "45.0.0.9")
    assert home.where == "dir/some-file.yaml:6"
    assert node(topology, "relay").services == ("relay",)
    assert node(topology, "both").services == ("stun", "rendezvous")
    alice = node(topology, "alice")
    assert (alice.peer, alice.address, alice.ready_signal) == (True, "192.168.7.20", False)
    bob = node(topology, "bob")
    assert bob.command == ("run", "--name", "my peer")
    assert bob.env == (("MODE", "test"), ("NOTHING", ""), ("ON", "true"), ("VERSION", "1.10"))
    assert bob.mounts[0] == Mount(source="/etc", target="/data", read_only=True)
    assert bob.mounts[1].source == str(Path.cwd())
    assert (bob.memory_bytes, bob.cpus, bob.ready_signal) == (256_000_000, 0.5, True)
    assert node(topology, "carol").command == ("sleep", "10")
    assert topology.expect == (
        Expectation(
            local="alice",
            remote="bob",
            outcomes=(("direct", "failure"), ("udp-punch", "timed-out"), ("path", "relayed")),
        ),
    )


def test_a_router_may_be_empty():
    topology = read("routers:\n  plain:\n")
    assert router(topology, "plain").via == "internet"
    assert router(topology, "plain").nat is None


@pytest.mark.parametrize(
    ("written", "nat"),
    [
        ("none", None),
        ("home", Nat(preset="home")),
        ("{preset: home}", Nat(preset="home")),
        ("{}", Nat()),
        ("full-cone", Nat(filtering=ENDPOINT, preset="full-cone")),
        ("restricted-cone", Nat(filtering=ADDRESS, preset="restricted-cone")),
        (
            "symmetric",
            Nat(mapping=BOTH, ports=Ports(policy=PortPolicy.RANDOM), preset="symmetric"),
        ),
        (
            "cgnat",
            Nat(
                filtering=ENDPOINT,
                ports=Ports(policy=PortPolicy.BLOCK, block=512),
                hairpin=Hairpin.EXTERNAL_SOURCE,
                preset="cgnat",
            ),
        ),
        ("{mapping: apdm, filtering: adf}", Nat(mapping=BOTH, filtering=ADDRESS)),
        (
            "{mapping: adm, ports: {policy: sequential, stride: 2, range: 2000-2999}}",
            Nat(
                mapping=ADDRESS,
                ports=Ports(policy=PortPolicy.SEQUENTIAL, first=2000, last=2999, stride=2),
            ),
        ),
        (
            "{preset: cgnat, ports: random, hairpin: off}",
            Nat(filtering=ENDPOINT, ports=Ports(policy=PortPolicy.RANDOM), preset="cgnat, changed"),
        ),
        (
            "{preset: cgnat, ports: {block: 64}, hairpin: false}",
            Nat(
                filtering=ENDPOINT,
                ports=Ports(policy=PortPolicy.BLOCK, block=64),
                preset="cgnat, changed",
            ),
        ),
        (
            "{hairpin: true, unsolicited: rst, lifetimes: {udp: 30s, tcp-established: 2h}}",
            Nat(
                hairpin=Hairpin.EXTERNAL_SOURCE,
                unsolicited=Unsolicited.RST,
                lifetimes=Lifetimes(udp_s=30, tcp_established_s=7200),
            ),
        ),
    ],
)
def test_nats(written, nat):
    assert router(read(f"routers: {{a: {{nat: {written}}}}}"), "a").nat == nat


def _direction(default, *rules):
    return Direction(default=default, rules=rules)


_WEB = Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((80, 80),))
_NO_UDP = Rule(verdict=Verdict.DROP, protocol="udp")


@pytest.mark.parametrize(
    ("written", "firewall"),
    [
        ("open", Firewall(preset="open")),
        ("stateful", Firewall(inbound=_direction(Verdict.DROP), preset="stateful")),
        ("{outbound: [tcp/80]}", Firewall(outbound=_direction(Verdict.DROP, _WEB))),
        ("{outbound: tcp/80}", Firewall(outbound=_direction(Verdict.DROP, _WEB))),
        ("{outbound: [drop udp]}", Firewall(outbound=_direction(Verdict.ACCEPT, _NO_UDP))),
        (
            "{outbound: [drop udp, tcp/80]}",
            Firewall(outbound=_direction(Verdict.DROP, _NO_UDP, _WEB)),
        ),
        (
            "{outbound: {default: reject, rules: [tcp/80]}}",
            Firewall(outbound=_direction(Verdict.REJECT, _WEB)),
        ),
        (
            "{preset: stateful, outbound: [tcp/80]}",
            Firewall(
                outbound=_direction(Verdict.DROP, _WEB),
                inbound=_direction(Verdict.DROP),
                preset="stateful, changed",
            ),
        ),
    ],
)
def test_firewalls(written, firewall):
    text = f"routers: {{a: {{firewall: {written}}}}}"
    assert router(read(text), "a").firewall == firewall
    text = f"nodes: {{a: {{via: internet, firewall: {written}}}}}"
    assert node(read(text), "a").firewall == firewall


def _link(up, down=None, **more):
    return LinkSpec(up=up, down=up if down is None else down, **more)


@pytest.mark.parametrize(
    ("written", "link"),
    [
        ("{}", LinkSpec()),
        ("{delay: 20ms, loss: 1%}", _link(Impairment(delay_us=20_000, loss=0.01))),
        (
            "{delay: 20ms, up: {rate: 1mbit}, down: {rate: 16mbit, delay: 5ms}}",
            _link(
                Impairment(rate_bit=10**6, delay_us=20_000),
                Impairment(rate_bit=16 * 10**6, delay_us=5_000),
            ),
        ),
        ("{mtu: 1280, backend: ferry}", LinkSpec(mtu=1280, backend=WantedBackend.FERRY)),
        (
            "dsl",
            _link(
                Impairment(rate_bit=10**6, delay_us=10_000),
                Impairment(rate_bit=16 * 10**6, delay_us=10_000),
                preset="dsl",
            ),
        ),
        (
            "{preset: dsl, rate: unlimited, loss: 0.5%}",
            _link(Impairment(delay_us=10_000, loss=0.005), preset="dsl, changed"),
        ),
    ],
)
def test_links(written, link):
    assert node(read(f"nodes: {{a: {{via: internet, link: {written}}}}}"), "a").link == link


def test_a_preset_whose_mtu_is_too_small_for_ipv6_is_refused_where_there_is_ipv6():
    with pytest.raises(TopologyError, match="carries IPv6, and its MTU is 576"):
        read("ip: dual\nnodes: {a: {via: internet, link: modem}}")


def test_counts_number_the_names_from_one():
    topology = read("routers: {home: {count: 3}}\nnodes: {one: {via: home-2, count: 1}}")
    assert [one.name for one in topology.routers] == ["home-1", "home-2", "home-3"]
    assert [(one.name, one.via) for one in topology.nodes] == [("one-1", "home-2")]


def test_counted_things_are_dealt_out_evenly():
    topology = read(
        """\
        routers:
          carrier: {nat: cgnat, count: 2}
          home: {via: carrier, nat: home, count: 4}
        nodes:
          host: {via: home, count: 4}
          pair: {via: home, count: 8}
          all: {via: carrier-1, count: 3}
        """
    )
    assert [one.via for one in topology.routers[2:]] == ["carrier-1"] * 2 + ["carrier-2"] * 2
    vias = {one.name: one.via for one in topology.nodes}
    assert [vias[f"host-{i}"] for i in (1, 2, 3, 4)] == ["home-1", "home-2", "home-3", "home-4"]
    assert [vias[f"pair-{i}"] for i in (1, 2, 3, 8)] == ["home-1", "home-1", "home-2", "home-4"]
    assert {vias[f"all-{i}"] for i in (1, 2, 3)} == {"carrier-1"}


def test_five_hundred_homes_take_two_lines():
    topology = read(
        """\
        routers: {home: {count: 500, nat: home, link: dsl}}
        nodes: {host: {via: home, count: 500}}
        """
    )
    assert topology.nodes[6].via == "home-7"
    assert len(topology.routers) == len(topology.nodes) == 500


def test_expectations_may_name_counted_nodes():
    text = "nodes: {n: {via: internet, peer: true, count: 2}}\nexpect: [{from: n-1, to: n-2}]"
    assert read(text).expect[0].remote == "n-2"


def test_the_name_is_that_of_the_caller_or_of_the_file_or_of_its_path():
    assert read("nodes: {a: {via: internet}}").name == "some-file"
    assert read("name: mine\nnodes: {a: {via: internet}}").name == "mine"
    assert read("name: mine\nnodes: {a: {via: internet}}", name="other").name == "other"


def test_anchors_and_merges():
    topology = read(
        """\
        nodes:
          alice: &peer {via: internet, peer: true, link: &slow {delay: 9ms}}
          bob: {<<: *peer, link: {<<: *slow, loss: 1%}}
          carol: *peer
        """
    )
    assert node(topology, "bob").peer
    assert node(topology, "bob").link.up == Impairment(delay_us=9000, loss=0.01)
    assert node(topology, "carol").link.up == Impairment(delay_us=9000)
    assert node(topology, "carol").where == "dir/some-file.yaml:4"


# --- overrides ----------------------------------------------------------------

FILE = """\
internet: 10ms
routers:
  home: {nat: home, link: dsl}
nodes:
  alice: {via: home, peer: true}
  bob: {via: home, peer: true, env: {MODE: a}}
expect:
  - {from: alice, to: bob, direct: success}
"""


def test_overrides_change_add_and_go_into_terse_forms():
    topology = read(
        FILE,
        "nodes.alice.link.delay=20ms",
        "routers.home.nat.ports=random",
        "routers.home.link.loss=1%",
        "internet.rate=1gbit",
        "nodes.bob.env.MODE=1.10",
        "nodes.carol={via: internet}",
        "expect.0.direct=failure",
        "seed=5",
    )
    assert node(topology, "alice").link.up.delay_us == 20_000
    home = router(topology, "home")
    assert home.nat.ports.policy is PortPolicy.RANDOM
    assert home.link.down == Impairment(rate_bit=16 * 10**6, delay_us=10_000, loss=0.01)
    assert topology.internet.transit == Impairment(delay_us=5_000, rate_bit=10**9)
    assert node(topology, "bob").env == (("MODE", "1.10"),)
    assert node(topology, "carol").via == "internet"
    assert topology.expect[0].outcomes == (("direct", "failure"),)
    assert topology.seed == 5


def test_the_last_override_counts_and_null_takes_away():
    topology = read(FILE, "seed=5", "seed=6", "routers.home.nat=symmetric", "routers.home.nat=")
    assert topology.seed == 6
    assert router(topology, "home").nat is None


def test_an_override_leaves_what_shares_an_anchor():
    text = "nodes:\n  a: &n {via: internet, link: {delay: 1ms}}\n  b: *n\n"
    topology = read(text, "nodes.b.link.delay=2ms")
    assert node(topology, "a").link.up.delay_us == 1_000
    assert node(topology, "b").link.up.delay_us == 2_000


@pytest.mark.parametrize(
    ("override", "message", "remedy"),
    [
        (
            "nodes.alice.link.delay=20",
            "nodes.alice.link.delay: the duration 20 has no unit",
            "20ms",
        ),
        ("routers.home.nat=symetric", "unknown NAT preset 'symetric'", "did you mean 'symmetric'?"),
        ("routers.home.natt=home", "unknown key 'natt' in routers.home", "did you mean 'nat'?"),
        ("node.alice.via=home", "unknown key 'node'", "did you mean 'nodes'?"),
        ("nodes.alise.peer=true", "there is no node 'alise'", "did you mean 'alice'?"),
        ("nodes.alice.peer.x=1", "nodes.alice.peer is true, which has no 'x'", "--set"),
        ("expect.7.to=bob", "expect has no item '7'", "0 to 0"),
        ("nodes.alice", "this is not path=value", "write --set nodes.alice"),
        ("nodes..via=home", "this is not path=value", "write --set nodes.alice"),
        ("seed=[1", "this is not YAML", "]"),
        ("nodes.alice.via=away", "alice is attached to 'away'", "routers: internet, home"),
    ],
)
def test_a_wrong_override_is_named_as_the_place(override, message, remedy):
    with pytest.raises(TopologyError) as caught:
        read(FILE, override)
    assert len(caught.value.problems) == 1
    assert caught.value.where == f"--set {override}"
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_load_takes_a_path_and_overrides(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("\ufeff" + FILE.replace("\n", "\r\n"), encoding="utf-8")
    topology = load(file, ["seed=9"], name="lab-9")
    assert (topology.name, topology.seed, topology.source) == ("lab-9", 9, str(file))


def test_programs_that_stand_beside_the_topology():
    text = """\
        nodes:
          own: {via: internet, command: [python3, ./own/peer.py, ../x, --out=./y, /bin/z]}
          boxed: {via: internet, image: example/peer:1, command: ./peer.py}
        """
    own = node(read(text), "own").command
    assert own[0] == "python3"
    assert [word.startswith("/") for word in own[1:3]] == [True, True]
    assert own[1].endswith("/dir/own/peer.py")
    assert "dir" not in own[2].split("/")[-2:]
    assert own[3:] == ("--out=./y", "/bin/z")
    assert node(read(text), "boxed").command == ("./peer.py",)
