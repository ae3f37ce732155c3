"""Following files that programs write to, through real inotify."""

import asyncio

import pytest

from lab.paths import LabPaths
from lab.runtime.contract import Tail

pytestmark = pytest.mark.kernel


def follow(root, act):
    """Run `act(tail, file)` beside a Tail of node `a`; the events it saw."""
    paths = LabPaths(root / "lab")
    events = []

    async def run():
        tail = Tail(paths, lambda _node, event: events.append(event))
        tail.watch("a")
        await act(tail, paths.node("a") / "out.jsonl")
        tail.ended("a")
        tail.close()

    asyncio.run(run())
    return events


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def test_lines_arrive_whole_however_they_are_written(tmp_path):
    async def act(tail, path):
        for piece in (b'{"event": "re', b'ady"}\nplain\n', b'{"event":"x","n":', b"1}\n"):
            append(path, piece)
            await asyncio.sleep(0)
        assert await tail.wait_ready(["a"], 30) == ()

    assert follow(tmp_path, act) == [{"event": "ready"}, {"event": "x", "n": 1}]


def test_garbage_and_endless_lines_stop_nothing(tmp_path):
    async def act(tail, path):
        append(path, bytes(range(256)) * 40 + b"\n")
        append(path, b'{"event": "' + b"x" * (3 << 20))
        append(path, b'"}\n{"event":"ready"}\n')
        assert await tail.wait_ready(["a"], 30) == ()

    assert follow(tmp_path, act) == [{"event": "ready"}]


def test_a_file_that_was_emptied_is_read_from_its_start(tmp_path):
    async def act(tail, path):
        append(path, b'{"event":"first"}\n' * 50)
        while not tail._nodes["a"].offset:
            await asyncio.sleep(0)
        path.write_bytes(b"")
        append(path, b'{"event":"ready"}\n')
        assert await tail.wait_ready(["a"], 30) == ()

    assert follow(tmp_path, act)[-1] == {"event": "ready"}


def test_what_an_earlier_program_said_is_not_repeated(tmp_path):
    path = tmp_path / "lab" / "nodes" / "a" / "out.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"event":"ready"}\n')

    async def act(tail, _path):
        assert [u.node for u in await tail.wait_ready(["a"], 0.05)] == ["a"]

    assert follow(tmp_path, act) == []
