"""Nothing is left, wherever the making stopped; and nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fabric_support import Bench, small

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.journal import NETNS, Entry, Journal, read
from lab.fabric.network import Network
from lab.fabric.teardown import remove_namespaces
from lab.paths import NETNS_DIR

pytestmark = pytest.mark.kernel

NODES, LINKS = small()
NOTES = len(NODES)
OPERATIONS = 2 * len(NODES) + len(LINKS)


class FullJournal(Journal):
    """A journal on a file system that is full after so many notes."""

    left: int

    def note(self, kind: str, name: str, **more: str) -> None:
        if self.left == 0:
            raise LabError("the lab's journal: No space left on device")
        self.left -= 1
        super().note(kind, name, **more)


class DeadlyJournal(FullJournal):
    """A journal whose process is killed right after so many notes."""

    def note(self, kind: str, name: str, **more: str) -> None:
        super().note(kind, name, **more)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def foreign(bench) -> Iterator[Path]:
    """A namespace with a name like the lab's, made beside it."""
    path = bench.paths.netns("foreign")
    subprocess.run(("ip", "netns", "add", path.name), check=True)
    identity = path.stat().st_ino
    yield path
    assert path.stat().st_ino == identity
    netns.delete(path)


def removed(bench: Bench) -> set[str]:
    gone = remove_namespaces(read(bench.paths.journal))
    assert bench.namespaces() == {"foreign"}
    return set(gone)


@pytest.mark.parametrize("notes", range(NOTES + 1))
def test_a_journal_that_is_full(bench, foreign, notes):
    journal = FullJournal.open(bench.paths.journal)
    journal.left = notes
    bench.network = Network(bench.paths, journal)
    if notes < NOTES:
        with pytest.raises(LabError, match="No space left"):
            bench.apply(NODES, LINKS)
    else:
        bench.apply(NODES, LINKS)
    assert removed(bench) <= {f"{bench.paths.lab}.{node.name}" for node in NODES}


@pytest.mark.parametrize("notes", range(1, NOTES + 1))
def test_killed_between_a_note_and_what_it_announces(bench, foreign, notes):
    bench.network.close()
    child = os.fork()
    if child == 0:
        journal = DeadlyJournal.open(bench.paths.journal)
        journal.left = notes
        bench.network = Network(bench.paths, journal)
        bench.apply(NODES, LINKS)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(read(bench.paths.journal)) >= notes
    removed(bench)


@pytest.mark.parametrize("operations", range(1, OPERATIONS, 2))
def test_killed_after_some_operations(bench, foreign, operations):
    bench.network.close()
    child = os.fork()
    if child == 0:
        count = 0

        def done(*_: object) -> None:
            nonlocal count
            count += 1
            if count == operations:
                os.kill(os.getpid(), signal.SIGKILL)

        network = Network(bench.paths, Journal.open(bench.paths.journal))
        bench.network.carry_out = lambda work, _: network.carry_out(work, done)  # type: ignore[method-assign]
        bench.apply(NODES, LINKS)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    removed(bench)


def test_every_half_made_state_is_removed_and_named(bench, foreign):
    bench.apply(NODES, LINKS)
    for name in ("noted", "made"):
        bench.journal.note(NETNS, f"{bench.paths.lab}.{name}")
    bench.paths.netns("made").touch()
    expected = {f"{bench.paths.lab}.{node.name}" for node in NODES}
    assert removed(bench) == expected | {f"{bench.paths.lab}.made"}
    assert removed(bench) == set()


def test_a_torn_last_line_hides_nothing_before_it(bench, foreign):
    bench.apply(NODES, LINKS)
    with bench.paths.journal.open("ab") as file:
        file.write(b'{"kind":"netns","name":"')
    assert len(removed(bench)) == len(NODES)


def test_only_names_and_only_namespaces(tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    entries = [
        Entry(kind=NETNS, name=f"../../{victim}"),
        Entry(kind=NETNS, name=str(victim)),
        Entry(kind=NETNS, name=".."),
        Entry(kind=NETNS, name=""),
        Entry(kind="container", name="t-fabric-container"),
    ]
    assert remove_namespaces(entries) == []
    assert victim.exists()
    assert NETNS_DIR.exists()


def test_a_name_is_free_as_soon_as_it_is_removed(bench):
    for _ in range(5):
        bench.apply(NODES, LINKS)
        remove_namespaces(read(bench.paths.journal))
        bench.plan = None
    assert bench.namespaces() == set()


def test_a_file_system_that_fills_up_tears_one_line_at_most(tmp_path):
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=8k", "lab", str(tmp_path)), check=True)
    path = tmp_path / "journal.jsonl"
    journal = Journal.open(path)
    try:
        names = [f"demo.node-{i}" for i in range(1000)]

        def fill() -> None:
            for name in names:
                journal.note(NETNS, name)

        with pytest.raises(LabError, match="No space left on device"):
            fill()
        noted = [entry.name for entry in read(path)]
        assert noted == names[: len(noted)]
        assert not journal.holds(NETNS, names[len(noted)])
        subprocess.run(("mount", "-o", "remount,size=64k", str(tmp_path)), check=True)
        journal.note(NETNS, "demo.last")
        assert [entry.name for entry in read(path)] == [*noted, "demo.last"]
    finally:
        journal.close()
        subprocess.run(("umount", str(tmp_path)), check=True)
