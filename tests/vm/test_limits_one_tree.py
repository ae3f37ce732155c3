"""Programs keep to their limits where there is cgroup2 alone, as on most machines of today."""

from __future__ import annotations

import pytest
from guest import results_of

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(600)]


def test_limits_are_kept_told_and_removed():
    found = {check: result["found"] for check, result in results_of(("tests.vm.limited",)).items()}
    assert found == {
        "one tree has both": {"memory": True, "cpus": True},
        "exceeded": "memory limit (32 MB)",
        "processor time": "50000 100000",
        "not exceeded": "",
        "killed": True,
        "left": [],
    }
