"""What the doctor finds in folders and says to people."""

import fcntl
import os

import click
import pytest

from lab.errors import LabError, MissingError
from lab.observe.doctor import machine
from lab.observe.doctor.check import Check, Level
from lab.observe.doctor.repair import repair, wanted
from lab.observe.doctor.report import lines, verdict
from lab.paths import LabPaths

CHECKS = (
    Check(group="kernel", name="veth", found="works"),
    Check(
        group="programs",
        name="iptables-nft-restore",
        level=Level.MISSING,
        found="not installed",
        why="NAT and firewall rules",
        remedy="apt-get install iptables",
        packages=("iptables",),
    ),
    Check(
        group="programs",
        name="ip6tables-nft-restore",
        level=Level.MISSING,
        found="not installed",
        why="IPv6 firewall rules",
        remedy="apt-get install iptables",
        packages=("iptables",),
    ),
    Check(
        group="programs",
        name="tcpdump",
        level=Level.WARNING,
        found="not installed",
        why="capturing packets",
        remedy="apt-get install tcpdump",
        packages=("tcpdump",),
    ),
)


def test_lines_for_people():
    text = click.unstyle("\n".join(lines(CHECKS[:2])))
    assert text == (
        "kernel\n"
        "  ok  veth                  works\n"
        "\n"
        "programs\n"
        "  ✗   iptables-nft-restore  not installed\n"
        "                            for NAT and firewall rules\n"
        "                            → apt-get install iptables\n"
    )


def test_the_verdict_in_one_sentence():
    assert click.unstyle(verdict(CHECKS)) == (
        "labs can't run here: iptables-nft-restore, ip6tables-nft-restore missing; "
        "`lab doctor --fix` installs what packages can bring"
    )
    assert click.unstyle(verdict(CHECKS[3:])) == (
        "labs can run here; 1 thing could be better; "
        "`lab doctor --fix` installs what packages can bring"
    )
    assert click.unstyle(verdict(CHECKS[:1])) == "labs can run here"


def test_each_package_is_wanted_once():
    assert wanted(CHECKS) == ("iptables", "tcpdump")
    assert wanted(CHECKS[:1]) == ()


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A PATH with nothing but an apt-get that notes how it is called."""

    def install(body: str):
        log = tmp_path / "calls"
        program = tmp_path / "apt-get"
        program.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {log}\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return log

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return install


def test_repair_installs_what_is_missing(apt):
    log = apt("exit 0")
    said: list[str] = []
    assert repair(CHECKS, said.append) == ("iptables", "tcpdump")
    assert said == ["installing iptables tcpdump"]
    assert log.read_text() == (
        "noninteractive install --yes --no-install-recommends iptables tcpdump\n"
    )


def test_repair_fetches_the_list_of_packages_if_it_has_to(apt):
    log = apt('[ "$1" = update ] && touch $0.listed; [ -e $0.listed ]')
    # `touch` is not on that PATH; the shell's own redirection is.
    program = log.parent / "apt-get"
    program.write_text(program.read_text().replace("touch $0.listed", ": > $0.listed"))
    repair(CHECKS, print)
    assert [line.split()[1] for line in log.read_text().splitlines()] == [
        "install",
        "update",
        "install",
    ]


def test_repair_that_fails_says_why(apt):
    apt("echo 'E: Unable to locate package iptables' >&2; exit 100")
    with pytest.raises(LabError, match="apt-get failed: E: Unable to locate package iptables"):
        repair(CHECKS, print)


def test_repair_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError) as raised:
        repair(CHECKS, print)
    assert raised.value.exit_code == 3
    assert "iptables tcpdump" in raised.value.remedy


def test_repair_without_root(apt, monkeypatch):
    log = apt("exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingError) as raised:
        repair(CHECKS, print)
    assert raised.value.remedy == "sudo apt-get install iptables tcpdump"
    assert not log.exists()


def test_a_lab_with_a_dead_agent_is_left_over_and_a_strange_namespace_is_only_reported(tmp_path):
    root, names = tmp_path / "lab", tmp_path / "netns"
    for lab in ("alive", "dead", "with.dot"):
        (root / lab).mkdir(parents=True)
        LabPaths(root / lab).journal.touch()
    names.mkdir()
    for name in ("alive.alice", "with.dot.bob", "other.carol", "docker0"):
        (names / name).touch()
    held = []
    for lab in ("alive", "with.dot"):
        file = LabPaths(root / lab).agent_lock.open("w")
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(file)
    try:
        dead, strange = machine.leftovers(root, names)
    finally:
        for file in held:
            file.close()
    assert (dead.name, dead.remedy) == ("dead", "lab down dead")
    assert strange.found.endswith(f"of no lab in {root}: other.carol")
    assert strange.remedy == "if nobody needs them: ip netns delete other.carol"
    assert sorted(entry.name for entry in names.iterdir()) == [
        "alive.alice",
        "docker0",
        "other.carol",
        "with.dot.bob",
    ]


def test_a_machine_without_labs(tmp_path):
    (check,) = machine.leftovers(tmp_path / "none", tmp_path / "neither")
    assert check.level is Level.OK


def test_looking_at_a_lock_does_not_take_it(tmp_path):
    path = tmp_path / "lock"
    assert not machine.locked(path)
    with path.open("w") as file:
        assert not machine.locked(path)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert machine.locked(path)
    assert not machine.locked(path)


def test_the_state_folder(tmp_path):
    assert machine.state_folder(tmp_path / "not" / "yet").level is Level.OK
    file = tmp_path / "file"
    file.touch()
    check = machine.state_folder(file / "lab")
    assert check.level is Level.MISSING
    assert check.found == f"{file} can't be written"
