"""Running modules of checks in a guest, which print a JSON line for each."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest
from vm import CannotBootError, Version, boot

# The guest's processor is emulated: a program takes some milliseconds to send.
GUEST_SLACK_S = 0.02
BOOT_S, CHECKS_S = 240, 330
"""Bounds, for a machine with more to do: alone, a guest takes a fifth of it."""


def results_of(*checks: tuple[str, ...], before: Version = ()) -> dict[str, dict[str, Any]]:
    """What modules, each with its arguments, say in one guest, by check; skips where none boots.

    With `before`, the guest's kernel is an earlier one than that.
    """
    commands = "; ".join(shlex.join((sys.executable, "-m", *each)) for each in checks)
    # What a link hands over while a processor of the guest's stands still is not to be lost.
    script = (
        "modprobe -a sch_netem sch_tbf veth tun && mount -t tmpfs none /run &&"
        " echo 100000 >/proc/sys/net/core/netdev_max_backlog &&"
        f" export LINK_SLACK_S={GUEST_SLACK_S} PYTHONDONTWRITEBYTECODE=1 && {{ {commands}; }}"
    )
    try:
        done = boot(script, timeout_s=BOOT_S + CHECKS_S * len(checks), before=before)
    except CannotBootError as error:
        pytest.skip(str(error))
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"check"'):
            result = json.loads(line)
            found[result["check"]] = result
    assert found, f"nothing ran: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return found
