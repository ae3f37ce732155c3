"""`lab explain` where peers are containers: the same ladder as of processes."""

from __future__ import annotations

import pytest

from lab.runtime import images
from lab.runtime.docker import Engine
from tests.kernel.end_to_end.support import Command

pytestmark = [pytest.mark.kernel, pytest.mark.docker]


@pytest.fixture
def runtimes() -> tuple[str, str]:
    engine = Engine.connect()
    if engine is None:
        pytest.skip("no Docker engine answers (tests/dockerd.sh start)")
    with engine:
        images.ensure(engine, lambda _text: None)
    return "process", "docker"


def test_containers_are_explained_as_processes_are(lab: Command, runtimes: tuple[str, str]):
    seen = []
    for runtime in runtimes:
        name = lab.name()
        lab.ok("up", "single-nat", "--name", name, "--runtime", runtime, "--quiet")
        found = lab.json("explain", "alice", "bob", "-t", "direct", "--lab", name)
        assert (found["outcome"], found["lost"], found["against"]) == ("success", [], [])
        probe = next(row for row in found["rows"] if row["text"] == "probe")
        assert [point["lane"] for point in probe["points"]] == ["alice", "home-a", "bob"]
        seen.append(
            (
                [lane["name"] for lane in found["lanes"]],
                [(note["lane"], note["kind"]) for note in probe["notes"]],
                found["sentence"].partition(":")[0],
            )
        )
        lab.ok("down", name, "--quiet")
    assert seen[0] == seen[1]
