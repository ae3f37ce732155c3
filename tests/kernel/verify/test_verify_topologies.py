"""Every shipped topology is what its file says, by the command that a person types."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from verify_support import Running, lab_command, new_name

from lab.paths import data_dir
from lab.plan.model import Plan
from lab.topology.behaviour import Nat, Unsolicited
from lab.topology.loader import load
from lab.verify.peers import servers_of

# Once, by itself: each worker would measure all in its fixture, and both would disturb.
pytestmark = [pytest.mark.kernel, pytest.mark.serial]

TOPOLOGIES = sorted(data_dir("topologies").glob("*.yaml"))


LINKS = ("double-nat",)
"""Those whose links are measured, too: others' tests are about links."""
AT_ONCE = 3


@dataclass(frozen=True)
class Verified:
    plan: Plan
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Verified]]]:
    """What `lab verify` says of each topology; a few at once, as they mostly wait."""

    def verify(file: Path) -> Verified:
        folder, name = tmp_path_factory.mktemp("s"), new_name("ships")
        links = () if file.stem in LINKS else ("--no-links",)
        try:
            plan = Running.up(folder, str(file), name).plan
            return Verified(plan, lab_command(folder, "verify", name, "--json", *links))
        finally:
            lab_command(folder, "down", name, "--quiet")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {file.stem: pool.submit(verify, file) for file in TOPOLOGIES}


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_a_shipped_topology_is_what_it_claims(
    verified: dict[str, Future[Verified]], file: Path
) -> None:
    found = verified[file.stem].result()
    answer = right(found.done)
    # A link that the timeline holds down is not measured through.
    assert [each for each in answer["unmeasured"] if "down" not in each["why"]] == []
    boxes = {
        node.name
        for node in found.plan.nodes
        if node.nat or node.firewall or node.firewall6 or node.nptv6
    }
    cut = {each["node"] for each in answer["unmeasured"]}
    assert {each["node"] for each in answer["findings"]} | cut >= boxes
    # Where there is no STUN server, nobody has one to ask.
    asking = {node.name for node in load(str(file)).nodes if node.peer and servers_of(found.plan)}
    assert {each["node"] for each in answer["peers"]} | cut >= asking
    links = {link.name for link in found.plan.links} if file.stem in LINKS else set()
    assert {each["name"] for each in answer["links"]} == links


def right(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the command says, where nothing differs."""
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    parts = (*answer["findings"], *answer["peers"], *answer["links"])
    assert [each for each in parts if not each["ok"]] == []
    assert (done.returncode, answer["ok"]) == (0, True)
    return answer


def test_the_command_says_no(one: Running) -> None:
    """Exit code 1, and the line that differs, when a router is not what the plan says."""
    try:
        one.fresh(Nat(unsolicited=Unsolicited.RST))
        done = lab_command(one.state, "verify", one.paths.lab, "home", "--no-links")
        assert done.returncode == 1, done.stderr
        lines = [line.split() for line in done.stdout.splitlines() if "✗" in line]
        assert lines[0][-5:] == ["unsolicited", "tcp", "drop", "✗", "rst"]
    finally:
        one.fresh(one.plan.node("home").nat or Nat())
    done = lab_command(one.state, "verify", one.paths.lab, "--no-links")
    assert done.returncode == 0, done.stdout
    assert "✓" in done.stdout.splitlines()[-1]
    wrong = lab_command(one.state, "verify", one.paths.lab, "hom")
    assert wrong.returncode == 2
    assert "did you mean 'home'" in wrong.stderr
