"""The kernel backend against the model, in a VM whose kernel has netem.

One boot runs all checks of tests/kernel/links/conformance.py; each is a test here.
"""

from __future__ import annotations

import json
import shlex
import sys

import pytest
from vm import CannotBootError, boot

from tests.kernel.links.conformance import CHECKS

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

# The guest's processor is emulated: a program takes some milliseconds to send.
GUEST_SLACK_S = 0.02


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, str]]:
    script = (
        "modprobe -a sch_netem sch_tbf veth tun && mount -t tmpfs none /run &&"
        f" LINK_SLACK_S={GUEST_SLACK_S} PYTHONDONTWRITEBYTECODE=1"
        f" {shlex.quote(sys.executable)} -m tests.kernel.links.conformance kernel"
    )
    try:
        done = boot(script)
    except CannotBootError as error:
        pytest.skip(str(error))
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"check"'):
            result = json.loads(line)
            found[result["check"]] = result
    assert found, f"nothing ran: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return found


@pytest.mark.parametrize("name", [check.__name__ for check in CHECKS])
def test_netem_conforms(name, results):
    assert name in results, f"did not run; these did: {sorted(results)}"
    assert not results[name]["error"], results[name]["error"]


def test_the_probe_finds_netem(results):
    assert results["probe"]["error"] == ""
