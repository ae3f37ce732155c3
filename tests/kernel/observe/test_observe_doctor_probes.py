"""The doctor on this machine: its probes are real and leave nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.observe import doctor

pytestmark = pytest.mark.kernel


def surroundings() -> tuple[list[Path], Path]:
    """The devices of the namespace that we are in, and which one that is."""
    return sorted(Path("/sys/class/net").iterdir()), Path("/proc/self/ns/net").readlink()


def test_this_machine_can_run_labs():
    before = surroundings()
    checks = {(check.group, check.name): check for check in doctor.examine()}
    assert surroundings() == before
    for name in (
        "network namespaces",
        "veth",
        "bridge",
        "TAP devices",
        "NAT rules",
        "packet sockets",
        "rule tracing (nftables)",
    ):
        assert checks["kernel", name].level is doctor.Level.OK, checks["kernel", name]
    for check in checks.values():
        assert check.found, check
        if check.level is not doctor.Level.OK:
            assert check.why, check
            assert check.remedy, check


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from lab.cli.main import main; main()", "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_the_command_answers_programs(tmp_path):
    done = run("--json", LAB_STATE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout
    answer = json.loads(done.stdout)
    assert answer["ready"] is True
    assert {"group", "name", "level", "found", "why", "remedy", "packages"} <= set(
        answer["checks"][0]
    )


def test_something_required_is_missing(tmp_path):
    file = tmp_path / "file"
    file.touch()
    done = run(LAB_STATE_DIR=str(file / "lab"))
    assert done.returncode == 3, done.stdout
    assert "labs can't run here: state folder missing" in done.stdout


def test_without_root():
    # The interpreter may be where only root can read, so it changes its user once it runs.
    program = (
        "import os; from lab.observe.doctor import kernel;"
        "checks = kernel.checks; os.setuid(65534); print(*checks())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "not root" in done.stdout, done.stderr
