"""Links: as declared, and for each dimension one that was changed behind the plan's back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from verify_support import Running, lab_command, new_name

from lab.topology.behaviour import Backend, Impairment
from lab.verify.links.measure import Strain, measure
from lab.verify.report import LinkFinding, LinkVerdict
from tests.kernel.verify.links_on import BROKEN, Case, Wires, as_declared, check, longest

pytestmark = pytest.mark.kernel

CASES = BROKEN | as_declared()
NARROW = {"narrow": Case(Impairment(), Impairment(), frozenset())}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[LinkFinding]]:
    """What is said of the link of each case, all measured in one run."""
    folder = tmp_path_factory.mktemp("w")
    with Wires(Backend.FERRY, folder, CASES | NARROW) as wires:
        wires.narrow("narrow", 0, 1300)
        return wires.measured()


@pytest.mark.parametrize("name", CASES)
def test_what_differs_is_noticed_and_nothing_else(
    found: dict[str, list[LinkFinding]], name: str
) -> None:
    check(CASES[name], found[name])


def test_an_end_that_takes_less_is_noticed_one_way(found: dict[str, list[LinkFinding]]) -> None:
    assert longest(found["narrow"])["up"] == (False, 1300.0)


def test_a_machine_that_lags_is_said_and_not_the_links_fault(tmp_path: Path) -> None:
    late = Case(Impairment(delay_us=20_000), Impairment(delay_us=45_000), frozenset())
    with Wires(Backend.FERRY, tmp_path, {"late": late}) as wires:
        links = [*wires.links.values()]
        for strain, verdict in (
            (Strain(("user-space links deliver late",), 0.02), LinkVerdict.DISTORTED),
            # Too little to explain it.
            (Strain(("user-space links deliver late",), 0.002), LinkVerdict.DIFFERS),
        ):
            found, _ = measure(links, wires.paths, strain=lambda strain=strain: strain)
            (delay,) = (one for one in found if (one.dimension, one.way) == ("delay", "up"))
            assert delay.verdict is verdict, delay


LAB = """\
name: links
internet: 4ms
routers:
  home: {nat: home, firewall: corporate, link: dsl}
nodes:
  alice: {via: home, link: {delay: 10ms, mtu: 1280}}
  bob: {via: home}
  carol: {via: internet}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("l")
    file = folder / "links.yaml"
    file.write_text(LAB)
    name = new_name("links")
    try:
        yield Running.up(folder / "s", str(file), name)
    finally:
        lab_command(folder / "s", "down", name, "--quiet")


def asked(lab: Running, *arguments: str) -> tuple[int, dict]:
    done = lab_command(lab.state, "verify", lab.paths.lab, "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def test_a_links_measurement_passes_firewalls_and_is_about_what_is_asked(lab: Running) -> None:
    code, answer = asked(lab, "--links")
    assert (code, answer["ok"], answer["unmeasured"]) == (0, True, [])
    assert answer["findings"] == []
    assert {one["name"] for one in answer["links"]} == {link.name for link in lab.plan.links}
    code, answer = asked(lab, "--link", "home", "internet")
    assert {one["link"] for one in answer["links"]} == {"home -- internet"}
    said = {(one["dimension"], one["way"]): one["declared"] for one in answer["links"]}
    assert (said["rate", "up"], said["rate", "down"]) == ("1 Mbit/s", "16 Mbit/s")
    wrong = lab_command(lab.state, "verify", lab.paths.lab, "--link", "alice", "carol")
    assert wrong.returncode == 2
    assert "there is no link between alice and carol" in wrong.stderr


def test_a_changed_link_is_measured_by_what_it_was_set_to(lab: Running) -> None:
    def command(*words: str) -> None:
        done = lab_command(lab.state, "link", *words, "--lab", lab.paths.lab)
        assert done.returncode == 0, done.stderr

    command("set", "alice", "home", "delay=35ms")
    code, answer = asked(lab, "--link", "alice", "home")
    delays = {one["declared"] for one in answer["links"] if one["dimension"] == "delay"}
    assert (code, delays) == (0, {"35 ms"})
    command("down", "alice", "home")
    code, answer = asked(lab, "--link", "alice", "home")
    assert {one["declared"] for one in answer["links"]} == {"100 % (down)"}
    assert code == 0
    command("reset", "alice", "home")


def test_the_command_says_which_link_differs(lab: Running) -> None:
    link = next(one for one in lab.plan.links if one.a.node == "alice")
    told = lab.shell("alice", "ip", "link", "set", link.a.interface, "mtu", "1000")
    assert told == ""
    try:
        done = lab_command(lab.state, "verify", lab.paths.lab, "--link", "alice", "home")
    finally:
        lab.shell("alice", "ip", "link", "set", link.a.interface, "mtu", "1280")
    assert done.returncode == 1, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines() if "✗" in line]
    assert lines[0].endswith("1280 bytes ✗ 1000 bytes")


def test_what_only_time_shows(tmp_path: Path) -> None:
    """With --slow: how long bursts are, and a loss that a quick look can't tell."""
    bursty = BROKEN["more bursts"].declared
    assert bursty.bursts is not None
    longer = replace(bursty, bursts=replace(bursty.bursts, p=0.0025, r=0.0625))
    lossy = BROKEN["no loss"].declared
    cases = {
        "longer bursts": Case(bursty, longer, frozenset({"length of bursts"}), frozenset({"loss"})),
        "a little less loss": Case(lossy, replace(lossy, loss=0.1), frozenset({"loss"})),
    }
    with Wires(Backend.FERRY, tmp_path, cases) as wires:
        found = wires.measured(slow=True)
    for name, case in cases.items():
        check(case, found[name])
