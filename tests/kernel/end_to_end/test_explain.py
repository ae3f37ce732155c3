"""`lab explain` on real networks: what it finds, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from lab.agent import lock
from lab.fabric import netns
from lab.fabric.rules import nftables
from lab.fabric.rules.standing import OBSERVERS
from lab.observe.capture.tracing import Tracer
from tests.kernel.end_to_end.support import Command, left_by

pytestmark = pytest.mark.kernel


class Network:
    """A shipped topology that is up."""

    def __init__(self, lab: Command, topology: str) -> None:
        self.lab = lab
        self.name = lab.name()
        lab.ok("up", topology, "--name", self.name, "--runtime", "process", "--quiet")

    def explain(
        self, technique: str, *more: str, code: int = 0, against: bool = False
    ) -> dict[str, Any]:
        """The ladder of an attempt from alice to bob, with the exit code that it must have.

        It may come out `against` what the plan predicts where a fault stands in between.
        """
        done = self.lab.run(
            "explain", "alice", "bob", "-t", technique, "--lab", self.name, "--json", *more
        )
        assert done.returncode == code, done.stderr
        found = json.loads(done.stdout)
        assert found["lost"] == []
        assert against or found["against"] == []
        return found

    def tables(self, node: str) -> tuple[str, ...]:
        with netns.inside(self.lab.paths(self.name).netns(node)):
            return nftables.tables()


@pytest.fixture
def network(lab: Command):
    return lambda topology: Network(lab, topology)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Two homes that no test changes."""
    command = Command(tmp_path_factory.mktemp("h") / "state")
    try:
        yield Network(command, "two-homes")
    finally:
        command.run("down", "--all", "--quiet")
    assert left_by(command) == []


def steps(found: dict[str, Any]) -> dict[int, list[str]]:
    marked: dict[int, list[str]] = {}
    for row in found["rows"]:
        for number, lane in row["steps"]:
            marked.setdefault(number, []).append(lane)
    return marked


def notes(found: dict[str, Any], *kinds: str) -> list[dict[str, str]]:
    return [note for row in found["rows"] for note in row["notes"] if note["kind"] in kinds]


def test_a_punch_and_its_four_steps(homes):
    found = homes.explain("udp-punch")
    assert found["outcome"] == "success"
    marked = steps(found)
    assert marked[1][0] == "alice"
    assert (marked[2], marked[3], marked[4]) == (["home-b"], ["home-a"], ["home-b"])
    drops = notes(found, "dropped")
    assert {note["lane"] for note in drops} == {"home-a"}
    assert {note["text"] for note in drops} == {"nothing unsolicited in"}
    assert all("-j DROP" in note["rule"] for note in drops)
    assert {note["lane"] for note in notes(found, "mapping")} == {"home-a", "home-b"}
    assert homes.tables("home-a") == homes.tables("home-b")
    assert OBSERVERS not in homes.tables("home-a")


def test_relay_and_tcp_in_the_same_lab(homes):
    relayed = homes.explain("relay")
    assert "both peers only ever sent outward, to relay" in relayed["sentence"]
    assert relayed["steps"] == []
    assert notes(relayed, "dropped", "lost") == []
    text = homes.lab.ok("explain", "alice", "bob", "-t", "tcp-punch", "--lab", homes.name)
    assert "alice → bob, tcp-punch: success" in text
    assert {"②", "④"} <= set(text)
    assert " SYN " in text
    assert "\x1b" not in text


def test_symmetric_nats_show_others_than_stun_saw(network):
    found = network("symmetric-pair").explain("udp-punch", code=1)
    assert found["sentence"].startswith("It failed: home-a maps ")
    assert "anew for each destination: STUN was shown" in found["sentence"]
    assert {note["lane"] for note in notes(found, "dropped")} == {"home-a", "home-b"}
    assert 4 not in found["steps"]


def test_the_rule_of_a_firewall_is_named(network):
    found = network("blocked-udp").explain("udp-punch", code=1)
    assert found["sentence"].startswith("It failed: office-b does not let bob's UDP out")
    dropped = [note for note in notes(found, "dropped") if note["lane"] == "office-b"]
    assert dropped
    assert all("-p udp" in note["rule"] for note in dropped)


def test_a_mapped_port_is_reached_directly(network, lab):
    house = Network(lab, "upnp-home")
    found = house.explain("upnp")
    assert "because alice asked for it (UPnP)" in found["sentence"]
    assert "home-a passed it on to 192.168.1.2:" in found["sentence"]


def test_a_packet_is_followed_through_a_nat64(network):
    """IPv6 in, IPv4 out, and the mapping that stands between the two."""
    mobile = network("ipv6-only")
    found = mobile.explain("udp-punch")
    assert {2, 4} <= set(found["steps"])
    boxes = [note["text"] for note in notes(found, "mapping") if note["lane"] == "mobile"]
    assert any(text.startswith("[2a02:1::2]:") and " is 45.0.0.2:" in text for text in boxes)
    crossed = [
        point
        for row in found["rows"]
        for point in row["points"]
        if point["lane"] == "mobile" and point["new_source"]
    ]
    # Either way: the source of a packet outward, and that of one inward.
    assert {point["source"].startswith("[") for point in crossed} == {True, False}
    assert not notes(found, "lost", "unseen")


def test_prefixes_that_are_translated_and_the_firewall_beside(network):
    found = network("nptv6").explain("udp-punch")
    assert {2, 4} <= set(found["steps"])
    assert {note["text"] for note in notes(found, "dropped")} <= {"firewall: in nothing"}
    assert not notes(found, "lost", "unseen")


def test_a_partition_is_named_where_it_drops(network):
    homes = network("two-homes")
    homes.lab.ok("partition", "alice", "/", "bob", "--lab", homes.name)
    found = homes.explain("udp-punch", code=1, against=True)
    assert "the internet dropped" in found["sentence"]
    assert "(partition of alice from bob)" in found["sentence"]
    dropped = [note for note in notes(found, "dropped") if note["lane"] == "internet"]
    assert dropped
    assert all("drop" in note["rule"] and "iifname" in note["rule"] for note in dropped)


def test_what_a_link_lost_is_told_from_what_nobody_wanted(network):
    homes = network("two-homes")
    homes.lab.ok("link", "set", "bob", "home-b", "up.loss=40%", "--lab", homes.name)
    done = homes.lab.run("explain", "alice", "bob", "--lab", homes.name, "--json", "--all")
    found = json.loads(done.stdout)
    lost = {(note["lane"], note["text"]) for note in notes(found, "lost")}
    assert lost == {("bob", "lost on the link bob\N{EM DASH}home-b by chance (40 % loss declared)")}
    homes.lab.ok("link", "down", "home-b", "internet", "--lab", homes.name)
    found = homes.explain("direct", code=1, against=True)
    assert "lost on the link home-b\N{EM DASH}internet, which is cut" in found["sentence"]


def test_drawings_are_written_to_files(network, tmp_path):
    """Of a session whose path a reboot breaks: its repair is in them, too."""
    homes = network("two-homes")
    picture, page = tmp_path / "ladder.svg", tmp_path / "ladder.html"
    homes.lab.ok("nat", "set", "home-a", "ports=random", "--lab", homes.name)
    files = ("--svg", str(picture), "--html", str(page))
    done = homes.lab.ok(
        *("explain", "alice", "bob", "--lab", homes.name, "-t", "udp-punch", *files),
        *("--during", "nat reboot home-a", "--json"),
    )
    found = json.loads(done)
    assert found["outcome"] == "repaired"
    assert [mark["kind"] for mark in found["marks"]] == ["change", "dead", "repaired"]
    assert found["marks"][0]["lane"] == "home-a"
    cut, dead, repaired = (mark["at_ms"] for mark in found["marks"])
    checks = [row for row in found["rows"] if row["text"] == "check" and cut < row["at_ms"] < dead]
    assert {row["fate"] for row in checks} == {"dropped"}
    assert {2, 4} <= set(found["steps"])
    assert all(dead < row["at_ms"] < repaired for row in found["rows"] if row["steps"])
    assert homes.lab.run("explain", "alice", "bob", "--during", "ls").returncode == 2
    assert ET.parse(picture).getroot().get("role") == "img"  # noqa: S314 - our own text
    assert "<table>" in page.read_text()


def test_what_makes_no_sense_is_refused(homes):
    done = homes.lab.run("explain", "alice", "bob", "-t", "telepathy", "--lab", homes.name)
    assert done.returncode == 2
    done = homes.lab.run("explain", "alice", "bob", "--svg", "/nowhere/x.svg", "--lab", homes.name)
    assert done.returncode == 2


def test_nobody_sees_the_observer(homes):
    """While rules are traced, what stands there is shown and compared as ever."""
    before = homes.lab.ok("nat", "show", "home-a", "--rules", "--lab", homes.name)
    tracer = Tracer(homes.lab.paths(homes.name).netns("home-a"), "home-a")
    try:
        assert OBSERVERS in homes.tables("home-a")
        during = homes.lab.json("nat", "show", "home-a", "--rules", "--lab", homes.name)
        assert during["as_planned"]
        assert "explain" not in during["text"]
    finally:
        tracer.close()
    assert OBSERVERS not in homes.tables("home-a")
    assert homes.lab.ok("nat", "show", "home-a", "--rules", "--lab", homes.name) == before


def test_an_agent_that_is_killed_leaves_no_observer(network):
    homes = network("symmetric-pair")
    paths = homes.lab.paths(homes.name)
    asking = homes.lab.popen("explain", "alice", "bob", "--lab", homes.name)
    command = ["nft", "monitor", "new", "tables"]
    with (
        netns.inside(paths.netns("home-a")),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor,
    ):
        # The kernel says when a table is made; it may be before the monitor listens.
        while OBSERVERS not in nftables.tables():
            select.select([monitor.stdout], [], [], 0.1)
        monitor.kill()
    fd = os.pidfd_open(lock.holder(paths.agent_lock))
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert select.select([fd], [], [], 30)[0]
    finally:
        os.close(fd)
    asking.communicate(timeout=60)
    assert asking.returncode == 4
    assert OBSERVERS not in homes.tables("home-a")
