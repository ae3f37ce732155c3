"""Programs that are not ours, unchanged in nodes: what docs/bring-your-own.md shows."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.paths import data_dir
from lab.runtime.docker import Engine
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

DEADLINE_S = 110


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def attempts(lab: Command, name: str, node: str, count: int) -> list[dict[str, Any]]:
    """The first `count` attempts that the program of `node` reports, waited for."""
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        following = stack.enter_context(lab.popen("logs", "--follow", "--lab", name, node))
        stack.callback(following.kill)
        late = threading.Timer(DEADLINE_S, following.kill)
        late.start()
        stack.callback(late.cancel)
        assert following.stdout is not None
        for line in following.stdout:
            start = line.find("{")
            if '"attempt"' in line:
                found.append(json.loads(line[start:])["record"])
            if len(found) == count:
                return found
    pytest.fail(f"{found} of {count} attempts:\n{lab.run('logs', '--lab', name).stdout}")


def reported(lab: Command, name: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """What `lab status` has of attempts, by who and whom: by which program, and how it went."""
    return {
        (one["local"], one["remote"]): (one["program"], one["outcome"], one["path"])
        for one in lab.json("status", name)["attempts"]
    }


def counted(lab: Command, name: str) -> set[tuple[str, ...]]:
    """The series of attempts in the metrics."""
    address = lab.json("status", name)["agent"]["metrics"]
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the agent's own
        text = answer.read().decode()
    series = re.findall(r"lab_connect_attempts_total\{(.*)\} 1\.0", text)
    keys = ("program", "local", "remote", "technique", "outcome", "path", "source")
    labels = (dict(re.findall(r'(\w+)="([^"]*)"', one)) for one in series)
    return {tuple(one[key] for key in keys) for one in labels}


@pytest.fixture
def start(lab: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    # `python3` is then the one that has what the tests need.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)

    def begin(lesson: str, *options: str) -> str:
        name = lab.name()
        lab.ok("up", f"bring-your-own/{lesson}", "--name", name, *options)
        return name

    return begin


@pytest.mark.skipif(importlib.util.find_spec("aiortc") is None, reason="not installed: aiortc")
def test_webrtc_between_homes_by_aiortc(lab, start):
    name = start("webrtc", "--runtime", "process")
    bob, carol = attempts(lab, name, "alice", 2)
    # A home NAT maps alike for all: what STUN found is where bob is.
    assert (bob["outcome"], bob["path"]) == ("success", "direct"), bob
    assert bob["remote_candidate"]["endpoint"].startswith("45.0.")
    assert bob["rtt_after_s"] > 0.04
    assert bob["goodput_bps"] > 0
    # One that maps anew for each destination needs TURN.
    assert (carol["outcome"], carol["path"]) == ("success", "relayed"), carol
    kinds = {carol[f"{side}_candidate"]["kind"] for side in ("local", "remote")}
    assert "relayed" in kinds
    assert reported(lab, name) == {
        ("alice", "bob"): ("peer.py", "success", "direct"),
        ("alice", "carol"): ("peer.py", "success", "relayed"),
    }
    assert counted(lab, name) == {
        ("peer.py", "alice", "bob", "webrtc", "success", "direct", "reported"),
        ("peer.py", "alice", "carol", "webrtc", "success", "relayed", "reported"),
    }


@needs("transmission-cli", "transmission-create", "aria2c", "curl", "upnpc", "conntrack")
def test_a_file_over_bittorrent_through_a_port_by_upnp(lab, start):
    name = start("bittorrent")
    (record,) = attempts(lab, name, "bob", 1)
    assert (record["outcome"], record["path"]) == ("success", "direct"), record
    nodes = lab.paths(name)
    sent = (nodes.node("alice") / "data" / "lesson").read_bytes()
    assert (nodes.node("bob") / "data" / "lesson").read_bytes() == sent
    # It was Transmission that asked, and bob who came in through that port.
    listed = lab.ok("exec", "--lab", name, "alice", "--", "upnpc", "-l")
    assert re.search(r"TCP 51413->192\.168\.1\.2:51413 'Transmission", listed)
    flows = lab.ok(
        *("exec", "--lab", name, "home-a", "--", "conntrack", "-L", "-p", "tcp"),
        *("--orig-dst", "45.0.0.2", "--orig-port-dst", "51413"),
    )
    assert re.search(r"src=45\.0\.0\.6 dst=45\.0\.0\.2 .*dport=51413 src=192\.168\.1\.2", flows)
    assert reported(lab, name) == {("bob", "alice"): ("fetch.sh", "success", "direct")}
    assert counted(lab, name) == {
        ("fetch.sh", "bob", "alice", "bittorrent", "success", "direct", "reported"),
    }


CALLS = {"bob": ("success", "direct"), "carol": ("timed-out", None), "dave": ("refused", None)}


def check_calls(lab: Command, name: str, program: str) -> None:
    told = attempts(lab, name, "alice", len(CALLS))
    assert {one["remote"]: (one["outcome"], one["path"]) for one in told} == CALLS
    expected = {("alice", remote): (program, *how) for remote, how in CALLS.items()}
    assert reported(lab, name) == expected
    assert counted(lab, name) == {
        (program, "alice", remote, "shell-tcp", outcome, path or "none", "reported")
        for remote, (outcome, path) in CALLS.items()
    }


@needs("busybox")
def test_a_shell_script_as_a_process(lab, start, tmp_path):
    folder = data_dir("topologies") / "bring-your-own"
    text = (folder / "shell.yaml").read_text()
    assert "image: example/shell:1" in text
    text = text.replace("    image: example/shell:1\n", "")
    text = text.replace("/peer.sh bob", "./shell/peer.sh bob")
    shutil.copytree(folder / "shell", tmp_path / "shell")
    file = tmp_path / "shell.yaml"
    file.write_text(text)
    name = lab.name()
    lab.ok("up", str(file), "--name", name)
    check_calls(lab, name, "peer.sh")


@pytest.mark.docker
@needs("busybox", "docker")
def test_the_same_script_as_an_image_without_a_registry(lab, start, tmp_path):
    if Engine.connect() is None:
        pytest.skip("no Docker engine answers")
    image = f"{lab.name()}/shell:1"
    script = data_dir("topologies") / "bring-your-own" / "shell" / "image.sh"
    subprocess.run([str(script), image], check=True, capture_output=True, timeout=60)
    try:
        name = start("shell", "--set", f"nodes.alice.image={image}")
        check_calls(lab, name, image)
        lab.ok("down", name)
    finally:
        subprocess.run(["docker", "rmi", image], check=True, capture_output=True, timeout=60)


def test_a_program_can_neither_speak_for_others_nor_flood(lab, tmp_path):
    """A record by a program that means no good: bounded, and under the program's own name."""
    file = tmp_path / "rogue.yaml"
    program = tmp_path / "rogue.py"
    program.write_text(
        "import json\n"
        "def say(**more):\n"
        "    record = {'outcome': 'success', 'path': 'direct'}\n"
        "    record |= {'local': 'victim', 'program': 'lab', 'source': 'ordered', 'proven': True}\n"
        "    print(json.dumps({'event': 'attempt', 'record': record | more}), flush=True)\n"
        "for number in range(3000):\n"
        "    say(technique=f't{number}', remote=f'r{number}')\n"
        "say(technique='\\x1b[2J' + 'x' * 100_000, remote={'a': ['b']}, outcome='wonderful')\n"
        "print(json.dumps({'event': 'ready'}), flush=True)\n"
        "import signal; signal.pause()\n"
    )
    file.write_text(
        "nodes:\n"
        "  rogue: {via: internet, command: python3 ./rogue.py, ready: signal}\n"
        "  victim: {via: internet}\n"
    )
    name = lab.name()
    lab.ok("up", str(file), "--name", name)
    address = lab.json("status", name)["agent"]["metrics"]
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the agent's own
        text = answer.read().decode()
    counts = re.findall(r"lab_connect_attempts_total\{(.*)\} (\S+)", text)
    assert sum(float(count) for _, count in counts) == 3001
    assert len(counts) <= 2002
    for labels, _ in counts:
        assert 'local="rogue"' in labels
        assert 'program="rogue.py"' in labels
        assert 'source="reported"' in labels
    techniques = {re.search(r'technique="([^"]*)"', labels)[1] for labels, _ in counts}
    assert len(techniques) == 33
    kept = [json.loads(line) for line in lab.paths(name).attempts.read_text().splitlines()]
    assert kept[-1]["outcome"] == "failed"
    assert len(kept[-1]["technique"]) == 500
    assert len(kept) == 3001
    for record in kept:
        assert (record["source"], record["proven"]) == ("reported", False)
        assert isinstance(record["distorted"], list)
    assert "\x1b" not in lab.ok("status", name)
