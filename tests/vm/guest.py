"""Running a module of checks in a guest, which prints a JSON line for each."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest
from vm import CannotBootError, Version, boot

# The guest's processor is emulated: a program takes some milliseconds to send.
GUEST_SLACK_S = 0.02


def results_of(module: str, *arguments: str, before: Version = ()) -> dict[str, dict[str, Any]]:
    """What `python -m module` says in a guest, by check; skips where none can boot.

    With `before`, the guest's kernel is an earlier one than that.
    """
    script = (
        "modprobe -a sch_netem sch_tbf veth tun && mount -t tmpfs none /run &&"
        f" LINK_SLACK_S={GUEST_SLACK_S} PYTHONDONTWRITEBYTECODE=1"
        f" {shlex.join((sys.executable, '-m', module, *arguments))}"
    )
    try:
        done = boot(script, before=before)
    except CannotBootError as error:
        pytest.skip(str(error))
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"check"'):
            result = json.loads(line)
            found[result["check"]] = result
    assert found, f"nothing ran: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return found
