"""Lifetimes and what refreshes them: short ones, as declared and not, all routers at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from verify_support import Running, lab_command, new_name

from lab.fabric import netns, rules
from lab.topology.behaviour import Dependence, Lifetimes, Nat, PortPolicy, Ports, Refresh
from lab.verify import Finding, verify

pytestmark = pytest.mark.kernel

SHORT = Lifetimes(udp_s=4, tcp_transitory_s=4, tcp_established_s=6)
TOLD_APART = replace(SHORT, udp_s=7, udp_one_way_s=4)
PERMITTED = replace(SHORT, udp_s=6, permission_s=3)
RANDOM = Ports(policy=PortPolicy.RANDOM)
UDP, TCP = "udp", "tcp"
BOTH_WAYS = {("lifetime", UDP), ("lifetime, two-way", UDP)}

CASES: dict[str, tuple[Nat, Nat, set[tuple[str, str]]]] = {
    "short": (Nat(lifetimes=SHORT), Nat(lifetimes=SHORT), set()),
    "told apart": (Nat(lifetimes=TOLD_APART), Nat(lifetimes=TOLD_APART), set()),
    "permitted": (
        Nat(lifetimes=PERMITTED, filtering=Dependence.ADDRESS_DEPENDENT),
        Nat(lifetimes=PERMITTED, filtering=Dependence.ADDRESS_DEPENDENT),
        set(),
    ),
    "permitted, random": (
        Nat(lifetimes=PERMITTED, ports=RANDOM),
        Nat(lifetimes=PERMITTED, ports=RANDOM),
        set(),
    ),
    "all told apart": (
        Nat(lifetimes=replace(TOLD_APART, permission_s=5, refresh=Refresh.OUTBOUND)),
        Nat(lifetimes=replace(TOLD_APART, permission_s=5, refresh=Refresh.OUTBOUND)),
        set(),
    ),
    "inbound refresh": (
        Nat(lifetimes=replace(SHORT, refresh=Refresh.INBOUND)),
        Nat(lifetimes=replace(SHORT, refresh=Refresh.INBOUND)),
        set(),
    ),
    "shorter": (
        Nat(lifetimes=SHORT),
        Nat(lifetimes=replace(SHORT, udp_s=2)),
        BOTH_WAYS,
    ),
    "longer": (Nat(lifetimes=SHORT), Nat(lifetimes=replace(SHORT, udp_s=9)), BOTH_WAYS),
    "two-way longer": (
        Nat(lifetimes=SHORT),
        Nat(lifetimes=TOLD_APART),
        {("lifetime, two-way", UDP)},
    ),
    "two-way no longer": (
        Nat(lifetimes=TOLD_APART),
        Nat(lifetimes=SHORT),
        {("lifetime, two-way", UDP)},
    ),
    "one-way shorter": (
        Nat(lifetimes=TOLD_APART),
        Nat(lifetimes=replace(TOLD_APART, udp_one_way_s=2)),
        {("lifetime", UDP)},
    ),
    "permission for good": (
        Nat(lifetimes=PERMITTED),
        Nat(lifetimes=replace(PERMITTED, permission_s=0)),
        {("lifetime, permission", UDP)},
    ),
    "mapping for as long as the permission": (
        Nat(lifetimes=PERMITTED, ports=RANDOM),
        Nat(lifetimes=replace(PERMITTED, udp_s=3, permission_s=0), ports=RANDOM),
        BOTH_WAYS,
    ),
    "connections for too short": (
        Nat(lifetimes=SHORT),
        Nat(lifetimes=replace(SHORT, tcp_established_s=2, tcp_transitory_s=2)),
        {("lifetime, transitory", TCP), ("lifetime, established", TCP)},
    ),
    "half-open for too long": (
        Nat(lifetimes=SHORT),
        Nat(lifetimes=replace(SHORT, tcp_transitory_s=9, tcp_established_s=9)),
        {("lifetime, transitory", TCP), ("lifetime, established", TCP)},
    ),
    "refreshed from inside alone": (
        Nat(lifetimes=SHORT),
        Nat(lifetimes=replace(SHORT, refresh=Refresh.OUTBOUND)),
        {("refresh", UDP)},
    ),
    "refreshed from both sides": (
        Nat(lifetimes=replace(SHORT, refresh=Refresh.INBOUND)),
        Nat(lifetimes=SHORT),
        {("refresh", UDP)},
    ),
}
BRIEF = """\
name: brief
internet: 0ms
routers:
  home:
    nat: {preset: home, lifetimes: {udp: 2s, tcp-transitory: 2s, tcp-established: 3s}}
    link: {delay: 5ms}
nodes:
  alice: {via: home}
"""
NAMES = {name: f"r{number}" for number, name in enumerate(CASES)}


@pytest.fixture(scope="module")
def slowly(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    """What is found of each router, all of them measured side by side."""
    folder = tmp_path_factory.mktemp("slow")
    file = folder / "many.yaml"
    file.write_text(
        "name: many\ninternet: 0ms\nrouters:\n"
        + "".join(f"  {router}: {{nat: home}}\n" for router in NAMES.values())
        + "nodes:\n"
        + "".join(f"  h{router}: {{via: {router}}}\n" for router in NAMES.values())
    )
    name = new_name("slow")
    try:
        running = Running.up(folder / "s", str(file), name)
        declared = {NAMES[case]: nat for case, (nat, _, _) in CASES.items()}
        plan = running.plan
        for case, (_, loaded, _) in CASES.items():
            node = replace(plan.node(NAMES[case]), nat=loaded)
            with netns.inside(running.paths.netns(node.name)):
                rules.load(rules.render(node))
        nodes = tuple(replace(n, nat=declared.get(n.name, n.nat)) for n in plan.nodes)
        report = verify(
            replace(plan, nodes=nodes), running.paths, list(declared), slow=True, limit_s=12
        )
        assert not report.unmeasured
        return {
            case: [one for one in report.findings if one.node == router]
            for case, router in NAMES.items()
        }
    finally:
        lab_command(folder / "s", "down", name, "--quiet")


@pytest.mark.parametrize("case", CASES)
def test_lifetimes(slowly: dict[str, list[Finding]], case: str) -> None:
    _, _, noticed = CASES[case]
    found = slowly[case]
    assert {(str(one.dimension), one.protocol) for one in found if not one.ok} == noticed, [
        one for one in found if not one.ok or (str(one.dimension), one.protocol) in noticed
    ]


def test_how_they_are_said(slowly: dict[str, list[Finding]]) -> None:
    def said(case: str) -> dict[str, str]:
        return {
            str(one.dimension): one.observed
            for one in slowly[case]
            if "lifetime" in one.dimension or one.dimension == "refresh"
        }

    assert said("all told apart") == {
        "lifetime": "4 s",
        "lifetime, two-way": "7 s",
        "lifetime, permission": "5 s",
        "lifetime, transitory": "4 s",
        "lifetime, established": "6 s",
        "refresh": "outbound",
    }
    low, high = said("shorter")["lifetime"].removesuffix(" s").split(" to ")
    assert float(low) <= 2 <= float(high)
    assert said("half-open for too long")["lifetime, transitory"].startswith("more than")


def test_slowly_a_report_has_lifetimes_and_longer_looks_at_links(tmp_path: Path) -> None:
    file = tmp_path / "brief.yaml"
    file.write_text(BRIEF)
    name = new_name("brief")
    try:
        running = Running.up(tmp_path / "s", str(file), name)
        quick, slow = (
            json.loads(done.stdout)
            for done in (
                lab_command(running.state, "verify", name, "--json"),
                lab_command(running.state, "verify", name, "--slow", "--limit", "5", "--json"),
            )
        )
    finally:
        lab_command(tmp_path / "s", "down", name, "--quiet")
    assert set(quick) == set(slow)
    dimensions = [{one["dimension"] for one in report["findings"]} for report in (quick, slow)]
    assert dimensions[1] - dimensions[0] >= {"lifetime", "lifetime, established", "refresh"}
    assert [(one["dimension"], one["observed"]) for one in slow["findings"] if not one["ok"]] == []
    few, many = (
        {
            (one["name"], one["way"]): one["samples"]
            for one in report["links"]
            if one["dimension"] == "loss"
        }
        for report in (quick, slow)
    )
    assert few.keys() == many.keys()
    assert all(many[key] > 3 * few[key] for key in few)
    # What is not told says why, and nothing else does.
    for one in slow["links"]:
        assert (one["verdict"] == "not measured") == (one["observed_value"] is None)
