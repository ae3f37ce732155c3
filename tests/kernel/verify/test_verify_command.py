"""What a person is told by `lab verify`."""

from __future__ import annotations

import pytest
from verify_support import Running, lab_command

from lab.topology.behaviour import Nat, Unsolicited

pytestmark = pytest.mark.kernel


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
