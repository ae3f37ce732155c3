"""`lab verify` of links that netem carries, in a VM: the same cases as for the ferry."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1000)]


# An emulated processor carries a few links at a time: some of the cases.
CASES = (
    "delay, longer",
    "loss where there is none",
    "rate, lower",
    "jitter where there is none",
    "reordering",
    "more bursts",
    "queue, shorter",
    "duplication",
    "corruption",
    "mtu, shorter",
    "bursts, longer",
)


IN_GUEST = ("tests.kernel.verify.links_on", "kernel", *CASES)


@pytest.mark.parametrize("name", CASES)
def test_netem_verifies(name: str, results: dict[str, dict[str, str]]) -> None:
    assert name in results, f"did not run; these did: {sorted(results)}"
    assert not results[name]["error"], results[name]["error"]
