"""What `lab predict` says: reasons, firewalls, common networks, and what ships.

`LAB_UPDATE_GOLDEN=1` rewrites the golden files; the difference is then for review.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent))
from predict_support import MACHINE, chain, facing, nat, peer, plan_of

from lab.cli.predict import command
from lab.errors import InputError
from lab.plan.compile import compile_topology
from lab.predict import contradictions, predict
from lab.predict.pairs import KINDS, Kind
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Nat,
    Pooling,
    Rule,
    Unsolicited,
    Verdict,
)
from lab.topology.files import shipped
from lab.topology.loader import load
from lab.topology.model import NodeSpec, RouterSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "predict"
HOME = Nat()
OPEN = nat(KINDS[0])
SYMMETRIC = nat(KINDS[-1])
STATEFUL = Firewall(inbound=Direction(default=Verdict.DROP))


def without(*protocols: str, ports: tuple[tuple[int, int], ...] = ()) -> Firewall:
    """A firewall that keeps these from leaving."""
    rules = tuple(Rule(verdict=Verdict.DROP, protocol=p, ports=ports) for p in protocols)
    return Firewall(outbound=Direction(rules=rules))


def reason(plan, technique: str, local: str = "alice", remote: str = "bob") -> str:
    (finding,) = predict(plan, local, remote, [technique]).findings
    return f"{'yes' if finding.possible else 'no'}: {finding.reason}"


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*.txt"))])
def test_reasons_for_what_ships(name):
    lines = []
    plan = compile_topology(load(name), replace(MACHINE, containers=True))
    for local, remote in (("alice", "bob"), ("bob", "alice")):
        prediction = predict(plan, local, remote)
        lines.append(f"{local} to {remote}: {prediction.path}")
        for finding in prediction.findings:
            word = "yes" if finding.possible else "no"
            lines.append(f"    {finding.technique}: {word}: {finding.reason}")
    text = "\n".join(lines) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("LAB_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", shipped())
def test_what_a_shipped_file_expects_is_what_is_predicted(name):
    plan = compile_topology(load(name), replace(MACHINE, containers=True))
    assert plan.expect
    for expectation in plan.expect:
        prediction = predict(plan, expectation.local, expectation.remote)
        for key, wanted in expectation.outcomes:
            if key == "path":
                assert prediction.path == wanted
            elif finding := prediction.of(key):
                assert finding.possible is (wanted == "success"), finding


# --- nested NATs ------------------------------------------------------------


def test_the_router_that_spoils_a_punch_is_named():
    plan = facing([HOME, SYMMETRIC], [HOME])
    assert reason(plan, "udp-punch") == (
        "no: b0 filters by address and port, and a1 maps each destination anew: the punch leaves "
        "from a port that b0 does not expect; and back, a1 filters by address and port and maps "
        "each destination anew: what alice opens is another port than the one that STUN showed"
    )


def test_several_spoil_it_together():
    by_address = nat(Kind(Dependence.ADDRESS_DEPENDENT, Dependence.ADDRESS_DEPENDENT))
    plan = facing([SYMMETRIC, by_address], [HOME])
    assert "a0 and a1 map each destination anew: the punch leaves" in reason(plan, "udp-punch")
    assert "a1 filters by address, and a0 and a1 map" in reason(plan, "udp-punch")


def test_one_open_nat_in_front_helps_nobody_behind_a_strict_one():
    assert reason(facing([HOME, OPEN], [SYMMETRIC]), "udp-punch").startswith("no: b0 filters")
    assert reason(facing([OPEN, OPEN], [SYMMETRIC]), "udp-punch").startswith("yes")


def test_a_nat_that_accepts_what_nobody_asked_for_spoils_the_mapping():
    """As measured: the callee's first packet finds nothing open, and the caller's NAT keeps it."""
    greedy = replace(HOME, unsolicited=Unsolicited.ACCEPT)
    assert reason(facing([greedy], [HOME]), "udp-punch") == (
        "no: b0 filters by address and port, and a0 has taken an early packet for its own "
        "(unsolicited: accept): the punch leaves from a port that b0 does not expect; and back, "
        "a0 filters by address and port and has taken an early packet for its own "
        "(unsolicited: accept): what alice opens is another port than the one that STUN showed"
    )
    assert reason(facing([HOME], [greedy]), "udp-punch").startswith("yes")


@pytest.mark.parametrize("word", [Unsolicited.RST, Unsolicited.REJECT])
def test_syns_that_are_refused_have_to_cross(word):
    """So they do where the way between takes its time (Ford et al. 2005, section 5.2)."""
    refusing = replace(HOME, unsolicited=word)

    def found(plan, technique="tcp-punch"):
        (finding,) = predict(plan, "alice", "bob", [technique]).findings
        return finding

    near = found(facing([refusing], [refusing]))
    assert (near.possible, near.by_chance) == (True, True)
    assert near.reason.endswith(
        "(a0 and b0 refuse early SYNs, so two have to cross: within 4 s they do so 0% of the time)"
    )
    homes = compile_topology(load("two-homes"), MACHINE)
    there = found(
        replace(
            homes,
            nodes=tuple(replace(node, nat=refusing) if node.nat else node for node in homes.nodes),
        )
    )
    assert (there.possible, there.by_chance) == (True, False)
    assert there.reason.endswith("with 26 ms between them they soon do)")
    # The SYN that the other drops stays open; and a datagram need not cross another.
    for plan, technique in (
        (facing([HOME], [refusing]), "tcp-punch"),
        (facing([refusing], [replace(OPEN, unsolicited=word)]), "tcp-punch"),
        (facing([refusing], [refusing]), "udp-punch"),
    ):
        assert not found(plan, technique).by_chance
        assert "refuse" not in found(plan, technique).reason


def test_any_address_of_a_pool_is_luck():
    def found(nat_a: Nat):
        plan = facing([nat_a], [nat(KINDS[1])])
        (finding,) = predict(plan, "alice", "bob", ["udp-punch"]).findings
        failed = [{"technique": "udp-punch", "outcome": "timed-out"}]
        return (
            finding.possible,
            finding.by_chance,
            len(contradictions(plan, "alice", "bob", failed)),
        )

    pool = replace(SYMMETRIC, pool=2)
    assert found(pool) == (True, False, 1)
    assert found(replace(pool, pooling=Pooling.ARBITRARY)) == (True, True, 0)
    assert found(replace(HOME, pool=2, pooling=Pooling.ARBITRARY)) == (True, False, 1)


def test_a_captive_portal_holds_everything_back():
    captive = Firewall(portal=True)
    plan = plan_of(
        RouterSpec(name="a0", nat=HOME, firewall=captive),
        peer("alice", "a0"),
        peer("bob", "internet"),
    )
    assert reason(plan, "direct") == (
        "no: alice does not reach the rendezvous service: a0 holds alice back until it has "
        "accepted the page of its portal"
    )


# --- common networks --------------------------------------------------------


@pytest.mark.parametrize("hairpin", Hairpin)
def test_neighbours_behind_a_carrier_need_it_to_turn_packets_around(hairpin):
    carrier = RouterSpec(name="carrier", nat=nat(KINDS[0], hairpin=hairpin))
    plan = plan_of(
        carrier,
        *chain("a", [HOME], "carrier"),
        *chain("b", [HOME], "carrier"),
        peer("alice", "a0"),
        peer("bob", "b0"),
    )
    said = reason(plan, "udp-punch")
    if hairpin is Hairpin.OFF:
        assert said == (
            "no: carrier does not turn packets around (hairpin: off), and both are behind it"
        )
    elif hairpin is Hairpin.EXTERNAL_SOURCE:
        assert said == ("yes: carrier, which both are behind, turns the packets of alice around")
    else:
        # Packets come from an address that the homes have not sent to.
        assert said.startswith("no: b0 filters by address and port, and does not expect 100.64.")


def test_who_is_on_one_lan_needs_no_help():
    plan = plan_of(
        RouterSpec(name="home", nat=SYMMETRIC), peer("alice", "home"), peer("bob", "home")
    )
    assert reason(plan, "direct") == "yes: bob can be reached as it is, at 192.168.1.3"
    assert reason(plan, "udp-punch") == "yes: bob can be reached at 192.168.1.3:40002"


def test_a_plain_router_leads_inside():
    plan = plan_of(
        RouterSpec(name="a0", nat=HOME), RouterSpec(name="plain"),
        peer("alice", "a0"), peer("bob", "plain"),
    )  # fmt: skip
    assert reason(plan, "direct").startswith("yes")
    assert reason(plan, "direct", "bob", "alice") == (
        "no: nothing leads from bob to 192.168.1.2; "
        "a0 admits nothing from outside that alice has not asked for"
    )


@pytest.mark.parametrize(
    ("filtering", "reached"), [("endpoint-independent", "yes"), ("address-dependent", "no")]
)
def test_a_nat_that_admits_everybody_lets_its_inside_be_called(filtering, reached):
    lax = Nat(mapping=Dependence.ENDPOINT_INDEPENDENT, filtering=Dependence(filtering))
    plan = facing([HOME], [lax])
    assert reason(plan, "direct").startswith(reached)
    assert reason(plan, "direct", "bob", "alice").startswith("no")


def test_two_lans_with_the_same_prefix():
    lan = "192.168.1.0/24"
    plan = plan_of(
        RouterSpec(name="a0", nat=HOME, lan=lan), RouterSpec(name="b0", nat=HOME, lan=lan),
        peer("alice", "a0"), peer("bob", "b0"),
    )  # fmt: skip
    assert reason(plan, "direct") == (
        "no: 192.168.1.2 is its own on the side of alice; "
        "b0 admits nothing from outside that bob has not asked for"
    )
    assert reason(plan, "udp-punch").startswith("yes")


# --- firewalls --------------------------------------------------------------


def test_a_firewall_is_opened_from_inside():
    plan = plan_of(peer("alice", "internet"), peer("bob", "internet", STATEFUL))
    assert reason(plan, "direct") == ("no: bob's own firewall lets no UDP in that is not an answer")
    assert reason(plan, "udp-punch").startswith("yes")


def test_a_firewall_on_the_way_is_a_filter_like_a_nat_s():
    guarded = RouterSpec(name="guard", firewall=STATEFUL)
    plan = plan_of(
        RouterSpec(name="a0", nat=SYMMETRIC), guarded, peer("alice", "a0"), peer("bob", "guard")
    )
    assert reason(plan, "direct").startswith("no: the firewall of guard lets no UDP in")
    # Bob's port is his own: Alice hears him from where she sent, if he knew where to.
    assert reason(plan, "udp-punch").startswith("no: the firewall of guard lets no UDP in")
    open_filter = replace(SYMMETRIC, filtering=Dependence.ENDPOINT_INDEPENDENT)
    plan = plan_of(
        RouterSpec(name="a0", nat=open_filter), guarded, peer("alice", "a0"), peer("bob", "guard")
    )
    assert reason(plan, "udp-punch").startswith("yes")


def test_without_udp_there_is_the_relay_over_tcp():
    plan = plan_of(
        RouterSpec(name="a0", nat=HOME),
        RouterSpec(name="b0", nat=HOME, firewall=without("udp")),
        peer("alice", "a0"), peer("bob", "b0"),
    )  # fmt: skip
    assert reason(plan, "udp-punch") == (
        "no: bob learns no external endpoint, as the firewall of b0 lets no UDP out"
    )
    assert reason(plan, "relay") == "yes: both reach the relay: alice by UDP and bob by TCP"


def only_to_servers(inbound: Verdict) -> Firewall:
    """Lets out what goes to the ports of servers, and nothing to a relayed one."""
    servers = (
        Rule(verdict=Verdict.ACCEPT, protocol="udp", ports=((3478, 3478),)),
        Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((9000, 9000),)),
    )
    return Firewall(
        outbound=Direction(default=Verdict.DROP, rules=servers), inbound=Direction(default=inbound)
    )


def test_a_relay_whose_ports_are_blocked():
    bob = peer("bob", "internet", only_to_servers(Verdict.DROP))
    plan = plan_of(peer("alice", "internet"), bob)
    assert "bob does not reach the port of alice at the relay" in reason(plan, "relay")
    assert reason(plan, "relay", "bob", "alice").startswith("yes")


def test_a_relay_whose_ports_come_in_by_themselves():
    bob = peer("bob", "internet", only_to_servers(Verdict.ACCEPT))
    plan = plan_of(peer("alice", "internet"), bob)
    assert reason(plan, "relay") == "yes: both reach the relay: alice by UDP and bob by UDP"


def test_nobody_connects_without_the_rendezvous():
    plan = facing([HOME], [HOME])
    blocked = plan_of(
        RouterSpec(name="a0", nat=HOME, firewall=without("tcp")),
        peer("alice", "a0"), peer("bob", "internet"),
    )  # fmt: skip
    prediction = predict(blocked, "alice", "bob")
    assert (prediction.possible, prediction.path) == (False, "none")
    others = [f for f in prediction.findings if f.technique != "lan"]
    assert all("alice does not reach the rendezvous" in f.reason for f in others)
    assert reason(plan, "direct", "alice", "stun") == "no: stun runs no peer"


# --- the question and the answer ----------------------------------------------


def test_questions_that_make_no_sense():
    plan = facing([HOME], [HOME])
    for local, remote in (("alice", "a0"), ("alice", "carol"), ("alice", "alice")):
        with pytest.raises(InputError):
            predict(plan, local, remote)
    with pytest.raises(InputError, match="there is no technique"):
        predict(plan, "alice", "bob", ["telepathy"])


def test_a_contradiction_is_said():
    plan = facing([HOME], [HOME])
    found = [
        {"technique": "direct", "outcome": "timed-out"},
        {"technique": "udp-punch", "outcome": "timed-out"},
        {"technique": "relay", "outcome": "unsupported"},
        {"technique": "telepathy", "outcome": "success"},
    ]
    (one,) = contradictions(plan, "alice", "bob", found)
    assert one.startswith("udp-punch: predicted success, found timed-out (b0 admits")
    found = [{"technique": "direct", "outcome": "success"}]
    (one,) = contradictions(plan, "alice", "bob", found)
    assert one == (
        "direct: predicted failure, found success (nothing leads from alice to 192.168.2.2; "
        "b0 admits nothing from outside that bob has not asked for)"
    )
    assert contradictions(plan, "alice", "a0", found) == []


def test_what_was_cut_short_contradicts_nothing():
    plan = facing([HOME], [HOME])
    failed = {"technique": "udp-punch", "outcome": "timed-out", "cut_short": False}
    assert len(contradictions(plan, "alice", "bob", [failed])) == 1
    assert contradictions(plan, "alice", "bob", [{**failed, "cut_short": True}]) == []


def test_a_node_without_a_program_is_told_what_others_are_told():
    plan = plan_of(
        RouterSpec(name="a0", nat=HOME),
        peer("alice", "a0"),
        NodeSpec(name="bare", via="internet"),
    )
    assert predict(plan, "bare", "alice").path == "direct"


def test_the_command():
    run = CliRunner().invoke
    done = run(command, ["alice", "bob", "--file", "symmetric-pair"])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == "alice to bob: best path relayed"
    done = run(command, ["alice", "bob", "-f", "symmetric-pair", "-t", "udp-punch", "--json"])
    assert done.exit_code == 1
    assert '"possible": false' in done.output
    made = ["--set", "routers.home-b.nat=restricted-cone"]
    done = run(command, ["alice", "bob", "-f", "symmetric-pair", "-t", "udp-punch", *made])
    assert done.exit_code == 0
    assert run(command, ["alice", "bob", *made]).exit_code == 2
