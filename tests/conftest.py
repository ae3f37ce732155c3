"""What holds for all tests.

A test that needs something missing skips and says what; where everything
should be there (continuous integration), such a skip is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

STRICT = bool(os.environ.get("CI"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where it must run: {report.longrepr}"


@pytest.fixture(scope="session", autouse=True)
def leave_nothing_behind() -> Iterator[None]:
    """The tests of a run leave no namespace behind, and no device in the root namespace."""
    before = _traces()
    yield
    left = _traces() - before
    # Other runs beside this one come and go with names of their own.
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        assert not left, f"left behind: {sorted(left)}"


def _traces() -> set[str]:
    found = {f"device {entry.name}" for entry in Path("/sys/class/net").iterdir()}
    netns = Path("/run/netns")
    if netns.is_dir():
        found |= {f"namespace {entry.name}" for entry in netns.iterdir()}
    return found
