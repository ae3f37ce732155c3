"""What holds for all tests.

A test that needs something missing skips and says what; where everything
should be there (continuous integration), such a skip is a failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lab.runtime import group

# How fast this machine is at the moment is no property of the code.
settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lab")

STRICT = bool(os.environ.get("CI"))
TESTS = Path(__file__).resolve().parent


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where it must run: {report.longrepr}"


def pytest_collection_modifyitems(items):
    """`make test` looks for these in one place each, and not among all."""
    for item in items:
        for marker, folder in (("serial", TESTS / "kernel"), ("vm", TESTS / "vm")):
            if item.get_closest_marker(marker) and folder not in item.path.parents:
                raise pytest.UsageError(f"{item.nodeid}: {marker} tests belong in {folder}")


def pytest_sessionstart(session):
    session.config.traces_before = _traces()


def pytest_sessionfinish(session):
    """A whole run leaves no namespace or control group, and no device in the root namespace."""
    # With others at work on the same machine, what is there says nothing about us.
    if not STRICT or hasattr(session.config, "workerinput"):
        return
    left = _traces() - session.config.traces_before
    if left:
        print(f"\nleft behind: {sorted(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _traces() -> set[str]:
    found = {f"device {entry.name}" for entry in Path("/sys/class/net").iterdir()}
    netns = Path("/run/netns")
    if netns.is_dir():
        found |= {f"namespace {entry.name}" for entry in netns.iterdir()}
    # Groups go while one looks, which `rglob` does not bear.
    for path, names, _ in (walk for top in group.mount_points() for walk in os.walk(top)):
        ours = (name for name in names if name.startswith(group.PREFIX))
        found |= {f"control group {path}/{name}" for name in ours}
    return found
