"""What looks at mappings say of a lifetime, whatever the machine made of the times."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lab.topology.behaviour import Nat
from lab.verify.lifetimes import Clocks, _Life, _Look
from lab.verify.report import Dimension

PUNCTUAL = (_Look(1.0, 1.0, alive=True), _Look(3.5, 3.51, alive=True))


@pytest.mark.parametrize(
    ("looks", "ok", "observed"),
    [
        ((*PUNCTUAL, _Look(4.5, 4.51, alive=False)), True, "4 s"),
        # The machine paused: the look that was due at 3.5 s says nothing against 4.
        (
            (_Look(3.0, 3.01, alive=True), _Look(3.5, 4.4, alive=False)),
            True,
            "4 s",
        ),
        ((_Look(2.0, 2.01, alive=True), _Look(3.0, 3.2, alive=False)), False, "2 to 3.2 s"),
        ((*PUNCTUAL, _Look(4.5, 5.4, alive=True)), False, "more than 4.5 s"),
        (
            (*PUNCTUAL, _Look(4.5, 5.4, alive=True), _Look(6.0, 6.01, alive=False)),
            False,
            "4.5 to 6 s",
        ),
        # Used until some moment between 3 and 4.2 s ago: no younger than 3 s, if it is there.
        ((_Look(3.0, 4.2, alive=True),), True, "more than 3 s"),
        ((_Look(0.0, 0.0, alive=False),), False, "now this, now that"),
    ],
)
def test_a_look_says_no_more_than_how_old_the_mapping_was(looks, ok, observed):
    clocks = Clocks(SimpleNamespace(site=SimpleNamespace(node=SimpleNamespace(name="r"))), Nat())
    found = clocks._lifetime(_Life(Dimension.LIFETIME, "udp", 4, list(looks)))
    assert (found.ok, found.observed) == (ok, observed)
