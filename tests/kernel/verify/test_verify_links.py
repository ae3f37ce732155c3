"""Links: as declared, and for each dimension one that was changed behind the plan's back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from verify_support import Running, lab_command, new_name

from lab.fabric.links.ferry.protocol import BUCKETS
from lab.topology.character import Backend, Impairment
from lab.verify.links.toll import Reading
from lab.verify.report import LinkVerdict
from tests.kernel.verify.links_on import (
    BROKEN,
    PAUSE_S,
    Case,
    Told,
    Wires,
    as_declared,
    longest,
    verified,
)
from tests.machine import measured

# Once, by itself: each worker would measure all in its fixture, and both would disturb.
pytestmark = [pytest.mark.kernel, pytest.mark.serial, pytest.mark.timeout(400)]

CASES = BROKEN | as_declared()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    return verified(Backend.FERRY, tmp_path_factory.mktemp("w"), CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_differs_is_noticed_and_nothing_else(told: dict[str, Told], name: str) -> None:
    if told[name].error and told[name].busy:
        # Nothing is missing here, which a skip would say: nothing can be told of a link.
        pytest.xfail(f"the machine did not keep up: {', '.join(told[name].busy)}")
    assert told[name].error == ""


def test_what_a_lagging_machine_explains_is_not_the_links_fault(tmp_path: Path) -> None:
    declared = Impairment(delay_us=20_000)
    cases = {
        "explained": Case(declared, Impairment(delay_us=45_000), frozenset()),
        "too much": Case(declared, Impairment(delay_us=200_000), frozenset()),
        "narrow": Case(Impairment(), Impairment(), frozenset()),
    }
    with Wires(Backend.FERRY, tmp_path, cases) as wires:
        wires.narrow("narrow", 0, 1300)
        counts = itertools.count()

        def late() -> Reading:
            """All frames of each probe were sent 17 to 33 ms late."""
            lateness = [0] * BUCKETS
            lateness[15] = 100_000 * next(counts)
            return Reading(tuple(lateness))

        found = wires.measured(late)
    verdicts = {
        name: {one.verdict for one in ones if (one.dimension, one.way) == ("delay", "up")}
        for name, ones in found.items()
    }
    assert verdicts["explained"] == {LinkVerdict.DISTORTED}
    assert verdicts["too much"] == {LinkVerdict.DIFFERS}
    # No machine's fault, and one way only.
    assert longest(found["narrow"])["up"] == (False, 1300.0)


LAB = """\
name: links
internet: 4ms
routers:
  home:
    nat: home
    firewall: corporate
    link: {delay: 10ms, up: {rate: 2mbit}, down: {rate: 16mbit}}
nodes:
  alice: {via: home, link: {delay: 10ms}}
  bob: {via: home}
  carol: {via: internet, link: {mtu: 1280}}
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


def command(lab: Running, *words: str) -> None:
    done = lab_command(lab.state, *words, "--lab", lab.paths.lab)
    assert done.returncode == 0, done.stderr


def test_a_lab_s_links_are_measured_past_its_firewalls(lab: Running) -> None:
    def check() -> None:
        done = lab_command(lab.state, "verify", lab.paths.lab, "--links", "--json")
        answer = json.loads(done.stdout)
        assert (answer["findings"], answer["unmeasured"]) == ([], [])
        assert [one for one in answer["links"] if not one["ok"]] == []
        assert (done.returncode, answer["ok"]) == (0, True)
        assert {one["name"] for one in answer["links"]} == {link.name for link in lab.plan.links}
        said = {
            (one["dimension"], one["way"]): one["declared"]
            for one in answer["links"]
            if one["link"] == "home -- internet"
        }
        assert (said["rate", "up"], said["rate", "down"]) == ("2 Mbit/s", "16 Mbit/s")

    measured(check, PAUSE_S, again=True)


def test_what_is_asked_about_is_measured_as_it_was_set(lab: Running) -> None:
    link = next(one for one in lab.plan.links if one.a.node == "carol")
    asked = ("alice", "home"), ("bob", "home"), ("carol", "internet")
    command(lab, "link", "set", "alice", "home", "delay=35ms")
    command(lab, "link", "down", "bob", "home")
    # This one behind the plan's back.
    assert lab.shell("carol", "ip", "link", "set", link.a.interface, "mtu", "1000") == ""
    about = [word for pair in asked for word in ("--link", *pair)]

    def check() -> None:
        done = lab_command(lab.state, "verify", lab.paths.lab, *about)
        assert done.returncode == 1, done.stderr
        lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
        named = {line.split(" -- ")[0] for line in lines if " -- " in line}
        assert named == {"alice", "bob", "carol"}
        wrong = [line for line in lines if "✗" in line]
        assert wrong[0].endswith("1280 bytes ✗ 1000 bytes")
        assert any("35 ms ✓" in line for line in lines)
        assert any("100 % (down) ✓" in line for line in lines)

    measured(check, PAUSE_S, again=True)


def test_a_pair_without_a_link_is_refused(lab: Running) -> None:
    wrong = lab_command(lab.state, "verify", lab.paths.lab, "--link", "alice", "carol")
    assert wrong.returncode == 2
    assert "there is no link between alice and carol" in wrong.stderr


def test_a_link_that_cannot_be_measured_fails_the_command(lab: Running, tmp_path: Path) -> None:
    trace = tmp_path / "lte.down"
    trace.write_text("1\n5\n9\n")
    command(lab, "link", "set", "carol", "internet", f"trace={trace}")
    trace.write_text("1\n5\n8\n")
    asked = ("verify", lab.paths.lab, "--link", "carol", "internet", "--json")
    done = lab_command(lab.state, *asked)
    assert done.returncode == 4, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["links"]) == (False, [])
    (lost,) = answer["unmeasured"]
    assert (lost["node"], lost["meant"]) == ("carol -- internet", False)
    assert "lte.down has changed" in lost["why"]
