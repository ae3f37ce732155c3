"""A plain wire changed under load: spliced where there is tcx, else replaced, which is said."""

from __future__ import annotations

import pytest
from guest import results_of

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(600)]

REPLACED = "the wire of server to internet was replaced: what was on it at that moment is lost"
TCX = (6, 6)


def test_the_ferry_comes_into_a_wire_and_goes_without_losing_a_packet():
    results = results_of(("tests.vm.changed",))
    if not results["tcx"]["found"]:
        pytest.skip("no kernel with tcx: Linux 6.6 is the first")
    for change in ("there", "back"):
        found = results[change]
        assert found["sent"] >= 500
        assert (found["lost"], found["doubled"]) == ([0, 0], [0, 0]), found
        assert "replaced" not in found["said"]
    assert results["there"]["round_trip_ms"] >= 40
    assert results["back"]["round_trip_ms"] < 40


def test_where_there_is_no_tcx_the_wire_is_replaced_once_which_is_said():
    results = results_of(("tests.vm.changed",), before=TCX)
    assert not results["tcx"]["found"]
    there, back = results["there"], results["back"]
    assert REPLACED in there["said"]
    assert there["doubled"] == [0, 0]
    assert there["round_trip_ms"] >= 40
    # It stays the ferry's, and so nothing is lost any more.
    assert "replaced" not in back["said"]
    assert (back["lost"], back["doubled"]) == ([0, 0], [0, 0]), back
    assert back["round_trip_ms"] < 40
