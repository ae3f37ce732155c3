"""The line that `lab connect` says of each technique as it ends."""

from __future__ import annotations

from lab.cli.connect import finished


def test_a_technique_that_worked_says_how_soon_and_by_what_path():
    record = {
        "technique": "udp-punch",
        "outcome": "success",
        "path": "direct",
        "time_to_path_s": 0.314,
    }
    assert finished(record, 4.06) == "   4.1 s  udp-punch    success in 0.31 s, direct"


def test_one_that_did_not_says_what_became_of_it():
    record = {"technique": "nat-pmp", "outcome": "unreachable", "time_to_path_s": None}
    assert finished(record, 12.34) == "  12.3 s  nat-pmp      unreachable"
