"""Every process of a lab ends, and no other."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_support import Scratch, alive, process, until, zygote

from lab.fabric import netns
from lab.runtime import group, teardown

pytestmark = pytest.mark.kernel

KILL = (
    "import sys\nfrom lab.paths import LabPaths\nfrom lab.runtime import teardown\n"
    "print(teardown.kill_processes(LabPaths.of(sys.argv[1])))"
)


def test_members_by_environment_and_by_namespace_end_and_others_live(scratch):
    other = Scratch()
    scratch.namespace("a")
    other.namespace("a")
    bystanders = [
        subprocess.Popen(["sleep", "600"], env={"LAB_STATE": f"{scratch.paths.root}-2"}),
        subprocess.Popen(["sleep", "600"], env={"LAB_STATE_DIR": str(scratch.paths.root)}),
        subprocess.Popen(["sleep", "600", "0.1"]),
    ]
    with netns.inside(other.paths.netns("a")):
        bystanders.append(subprocess.Popen(["sleep", "600"]))
    mine = [subprocess.Popen(["sleep", "600"], env={"LAB_STATE": str(scratch.paths.root)})]
    with netns.inside(scratch.paths.netns("a")):
        mine.append(subprocess.Popen(["sleep", "600"], env={}))
    try:
        assert teardown.kill_processes(scratch.paths) == 2
        assert [p.wait(30) for p in mine] == [-9, -9]
        assert [p.poll() for p in bystanders] == [None] * 4
        assert teardown.kill_processes(scratch.paths) == 0
    finally:
        for p in bystanders:
            p.kill()
            p.wait()
        other.clean()


NO_GROUP = "no cgroup2 that can be written, with `cgroup.kill` (Linux 5.14)"

HOPPING = "import os\nwhile True:\n  if os.fork(): os._exit(0)\n"
"""Never the same process for longer than it takes to make another."""


def test_a_program_that_forks_all_the_time_ends_too(scratch):
    async def run():
        async with zygote(scratch) as server:
            for node in ("a", "b"):
                scratch.namespace(node)
                await server.spawn(node, process(sys.executable, "-S", "-c", HOPPING))

    asyncio.run(run())
    if group.of(scratch.paths) is None:
        pytest.skip(NO_GROUP)
    teardown.kill_processes(scratch.paths)
    assert group.of(scratch.paths) is None
    assert teardown.members(scratch.paths) == []


def test_a_program_that_forks_again_and_again_and_is_no_child_of_ours_ends_too(scratch):
    script = HOPPING.replace("import os", "import os, time").replace("if", "time.sleep(0.02)\n  if")
    scratch.namespace("a")
    with netns.inside(scratch.paths.netns("a")):
        started = [subprocess.Popen([sys.executable, "-S", "-c", script]) for _ in range(2)]
    teardown.kill_processes(scratch.paths)
    assert teardown.members(scratch.paths) == []
    for p in started:
        p.wait(30)


def test_a_group_goes_with_what_its_members_made_of_it_and_no_other_group(scratch):
    other = Scratch()
    try:
        into = grouped(scratch)
        beside = grouped(other)
        below = into / "below" / "below"
        below.mkdir(parents=True)
        mine = [sleeper(into), sleeper(below)]
        stranger = sleeper(beside)
        # Its path may be noted anywhere: what has another lab's name is another lab's.
        scratch.journal.note(group.KIND_GROUP, str(beside))
        assert teardown.kill_processes(scratch.paths) == 2
        assert [p.wait(30) for p in mine] == [-9, -9]
        assert not into.exists()
        assert stranger.poll() is None
        assert teardown.kill_processes(other.paths) == 1
        assert stranger.wait(30) == -9
        assert not beside.exists()
    finally:
        other.clean()


def test_a_caller_in_the_group_and_its_ancestors_leave_it(scratch):
    into = grouped(scratch)
    script = f"echo $$ > {into}/cgroup.procs; sleep 600 & {sys.executable} -c '{KILL}' $1; cat"
    done = subprocess.run(
        ["sh", "-c", script, "sh", scratch.paths.lab],
        input="survived",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["1", "survived"]
    assert not into.exists()


def test_the_group_is_found_from_inside_a_node(scratch):
    into = grouped(scratch)
    scratch.namespace("a")
    mine = sleeper(into)
    # A /sys of its own, as `ip netns exec` mounts it.
    command = ["ip", "netns", "exec", scratch.paths.netns("a").name, sys.executable, "-c", KILL]
    subprocess.run([*command, scratch.paths.lab], timeout=60, check=True)
    assert mine.wait(30) == -9
    assert not into.exists()


def grouped(scratch: Scratch) -> Path:
    into = group.create(scratch.paths, scratch.journal)
    return into or pytest.skip(NO_GROUP)


def sleeper(into: Path) -> subprocess.Popen:
    """A process in that group which nothing else says to be the lab's."""
    script = f"echo $$ > {into}/cgroup.procs; echo in; exec sleep 600"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    return process


def test_the_caller_and_its_ancestors_are_spared(scratch):
    env = {**os.environ, "LAB_STATE": str(scratch.paths.root)}
    script = f"sleep 600 & {sys.executable} -c '{KILL}' {scratch.paths.lab}; echo survived"
    done = subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1", "survived"]


def test_programs_end_with_the_agent_dead_stopped_or_detached(scratch):
    async def run():
        async with zygote(scratch) as server:
            node = scratch.namespace("a")
            script = "setsid sh -c 'sleep 6000 & echo $!; wait' & kill -STOP $$"
            await server.spawn(node, process("sh", "-c", script))
            until(lambda: scratch.out(node).endswith("\n"))
        return int(scratch.out(node))

    detached = asyncio.run(run())
    assert alive(detached)
    assert teardown.kill_processes(scratch.paths) >= 3
    assert not alive(detached)
