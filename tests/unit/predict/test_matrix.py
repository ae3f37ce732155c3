"""The pair loop of `lab matrix`, with an agent that says what a test wants; and its table."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from lab.cli.predict import command as predict_command
from lab.observe.matrix import side_by_side, table
from lab.plan.model import NodeKind, decode
from lab.predict.pairs import KINDS, punches
from lab.study.matrix import SECOND_S, classic, nine, pairs, run, two_homes
from lab.topology.behaviour import PortPolicy

DOCUMENT = Path(__file__).parents[3] / "docs" / "nat.md"


class Agent:
    """Answers orders: `outcomes` in turn, and successes when they are used up."""

    def __init__(self, *outcomes: str) -> None:
        self.outcomes = list(outcomes)
        self.plans = []
        self.windows = []

    def __call__(self, order):
        if order["do"] == "apply":
            self.plans.append(decode(order["plan"].encode()))
        else:
            self.windows.append(order["options"]["window_s"])
            outcome = self.outcomes.pop(0) if self.outcomes else "success"
            record = {"outcome": outcome, "reason": "because", "time_to_path_s": None}
            yield {"event": "attempt", "record": record}
        yield {"result": {}}


def cells(agent: Agent, *homes, **more):
    return list(run(two_homes("m"), agent, iter(homes), **more))


CONE, SYMMETRIC = (nine()[KINDS.index(kind)] for kind in (KINDS[2], KINDS[-1]))


def test_the_lab_has_two_homes_and_nothing_slow():
    plan = two_homes("m", PortPolicy.PRESERVE)
    assert [n.name for n in plan.nodes if n.kind is NodeKind.ROUTER] == ["home-a", "home-b"]
    assert all(link.a_to_b.none and link.b_to_a.none for link in plan.links)


def test_only_the_two_nats_change():
    agent = Agent()
    cells(agent, (CONE, SYMMETRIC))
    (changed,) = agent.plans
    before = {node.name: node for node in two_homes("m").nodes}
    different = [node.name for node in changed.nodes if node != before[node.name]]
    assert different == ["home-a", "home-b"]
    nats = [node.nat for node in changed.nodes if node.nat]
    assert nats == [CONE.nat, SYMMETRIC.nat]


def test_all_ordered_pairs_are_tried():
    agent = Agent()
    found = list(run(two_homes("m"), agent, pairs(nine())))
    assert len(found) == len({(cell.caller, cell.callee) for cell in found}) == 81
    assert sum(cell.predicted for cell in found) == sum(punches(x, y) for x in KINDS for y in KINDS)


def test_a_failure_that_was_predicted_stands():
    agent = Agent("timed-out")
    (cell,) = cells(agent, (SYMMETRIC, SYMMETRIC))
    assert (cell.agrees, cell.attempts, agent.windows) == (True, 1, [0.5])


def test_a_busy_machine_gets_a_second_attempt_but_no_third():
    agent = Agent("timed-out")
    (cell,) = cells(agent, (CONE, CONE))
    assert (cell.agrees, cell.attempts, agent.windows) == (True, 2, [0.5, SECOND_S])
    agent = Agent("timed-out", "timed-out")
    (cell,) = cells(agent, (CONE, CONE))
    assert (cell.agrees, cell.predicted, cell.found) == (False, True, False)


def test_a_success_that_was_not_predicted_is_flagged():
    (cell,) = cells(Agent("success"), (SYMMETRIC, SYMMETRIC))
    assert (cell.agrees, cell.predicted, cell.found) == (False, False, True)
    assert "home-b filters by address and port" in cell.predicted_reason


def test_bad_luck_is_no_contradiction():
    (lucky,) = cells(Agent("success"), (CONE, SYMMETRIC), techniques=("birthday",))
    (unlucky,) = cells(Agent("timed-out"), (CONE, SYMMETRIC), techniques=("birthday",))
    (hopeless,) = cells(Agent("success"), (SYMMETRIC, SYMMETRIC), techniques=("birthday",))
    assert (lucky.agrees, unlucky.agrees, hopeless.agrees) == (True, True, False)
    assert unlucky.attempts == 1
    assert table([lucky]).endswith("yes~")


def test_the_classic_kinds_are_told_apart_by_what_connects():
    """REFERENCE N3, N5 and N8: the matrix of RFC 3489's kinds, by techniques."""
    found = {}
    for technique in ("udp-punch", "udp-predict", "tcp-punch", "tcp-predict"):
        done = run(two_homes("m"), Agent(), pairs(classic()), (technique,))
        found[technique] = {(c.caller, c.callee) for c in done if c.predicted}
    names = [home.name for home in classic()]
    udp = {
        ("full", "full"), ("full", "restr"), ("full", "port-r"), ("full", "sym-random"),
        ("full", "sym-seq"), ("restr", "restr"), ("restr", "port-r"), ("restr", "sym-random"),
        ("restr", "sym-seq"), ("port-r", "port-r"),
    }  # fmt: skip
    counted = {("port-r", "sym-seq"), ("sym-seq", "sym-seq")}
    # To TCP, a router that blocks UDP is one that filters by address and port.
    blocked = {(name, "blocked") for name in names[:3]} | {("blocked", "blocked")}
    assert found["udp-punch"] == both_ways(udp)
    assert found["udp-predict"] == both_ways(udp | counted)
    assert found["tcp-punch"] == both_ways(udp | blocked)
    assert found["tcp-predict"] == both_ways(udp | blocked | counted | {("sym-seq", "blocked")})


def both_ways(some):
    return some | {(y, x) for x, y in some}


def test_the_table():
    agent = Agent("success", "timed-out", "success", "success")
    kinds = (CONE, SYMMETRIC)
    found = cells(agent, *((x, y) for x in kinds for y in kinds))
    assert table(found) == (
        "from \\ to  EIM/APDF  APDM/APDF\nEIM/APDF   yes       no\nAPDM/APDF  yes!      yes!"
    )
    assert table(found, markdown=True) == (
        "| from \\ to | EIM/APDF | APDM/APDF |\n"
        "| --- | :-: | :-: |\n"
        "| **EIM/APDF** | yes | no |\n"
        "| **APDM/APDF** | yes! | yes! |"
    )


def test_techniques_side_by_side():
    # Direct connects nobody, and punching somebody whom it should not.
    outcomes = ("success", "no", "no", "no", "success", "no", "no", "no")
    pair = (CONE, SYMMETRIC)
    todo = [(x, y) for x in pair for y in pair]
    found = cells(Agent(*outcomes), *todo, techniques=("udp-punch", "direct"))
    assert side_by_side(found).splitlines() == [
        "between               udp-punch",
        "EIM/APDF, EIM/APDF    yes",
        "EIM/APDF, APDM/APDF   no / yes!",
        "APDM/APDF, APDM/APDF  no",
    ]


def test_the_table_in_the_documentation_is_the_one_that_the_command_prints():
    found = list(run(two_homes("m"), Agent(*_as_predicted()), pairs(nine())))
    assert all(cell.agrees for cell in found)
    assert table(found, markdown=True) in DOCUMENT.read_text()


def _as_predicted():
    return ["success" if punches(x, y) else "timed-out" for x in KINDS for y in KINDS]


def test_the_prediction_in_the_documentation_is_the_one_that_the_command_prints():
    carrier = ["--set", "routers.carrier-a.nat=symmetric"]
    some = [word for name in ("direct", "udp-punch", "relay") for word in ("-t", name)]
    given = ["alice", "bob", "--file", "double-nat", *carrier, *some]
    done = CliRunner().invoke(predict_command, given)
    assert done.output in DOCUMENT.read_text()
