"""Every process of a lab ends, and no other."""

import asyncio
import os
import subprocess
import sys

import pytest
from runtime_support import Scratch, alive, process, until, zygote

from lab.fabric import netns
from lab.runtime import teardown

pytestmark = pytest.mark.kernel


def test_members_by_environment_and_by_namespace_end_and_others_live(scratch):
    other = Scratch()
    scratch.namespace("a")
    other.namespace("a")
    bystanders = [
        subprocess.Popen(["sleep", "60"], env={"LAB_STATE": f"{scratch.paths.root}-2"}),
        subprocess.Popen(["sleep", "60"], env={"LAB_STATE_DIR": str(scratch.paths.root)}),
        subprocess.Popen(["sleep", "60", "0.1"]),
    ]
    with netns.inside(other.paths.netns("a")):
        bystanders.append(subprocess.Popen(["sleep", "60"]))
    mine = [subprocess.Popen(["sleep", "60"], env={"LAB_STATE": str(scratch.paths.root)})]
    with netns.inside(scratch.paths.netns("a")):
        mine.append(subprocess.Popen(["sleep", "60"], env={}))
    try:
        assert teardown.kill_processes(scratch.paths) == 2
        assert [p.wait(5) for p in mine] == [-9, -9]
        assert [p.poll() for p in bystanders] == [None] * 4
        assert teardown.kill_processes(scratch.paths) == 0
    finally:
        for p in bystanders:
            p.kill()
            p.wait()
        other.clean()


def test_a_program_that_forks_all_the_time_ends_too(scratch):
    script = "import os\nwhile True:\n  if os.fork(): os._exit(0)\n"
    env = {"LAB_STATE": str(scratch.paths.root)}
    started = [subprocess.Popen([sys.executable, "-S", "-c", script], env=env) for _ in range(2)]
    assert teardown.kill_processes(scratch.paths) >= 0
    assert teardown.members(scratch.paths) == []
    for p in started:
        p.wait(5)


def test_the_caller_and_its_ancestors_are_spared(scratch):
    code = (
        "import os, sys\nfrom lab.paths import LabPaths\nfrom lab.runtime import teardown\n"
        "print(teardown.kill_processes(LabPaths.of(sys.argv[1])))"
    )
    env = {**os.environ, "LAB_STATE": str(scratch.paths.root)}
    script = f"sleep 60 & {sys.executable} -c '{code}' {scratch.paths.lab}; echo survived"
    done = subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1", "survived"]


def test_programs_end_with_the_agent_dead_stopped_or_detached(scratch):
    async def run():
        async with zygote(scratch) as server:
            node = scratch.namespace("a")
            script = "setsid sh -c 'sleep 600 & echo $!; wait' & kill -STOP $$"
            await server.spawn(node, process("sh", "-c", script))
            until(lambda: scratch.out(node).endswith("\n"))
        return int(scratch.out(node))

    detached = asyncio.run(run())
    assert alive(detached)
    assert teardown.kill_processes(scratch.paths) >= 3
    assert not alive(detached)
