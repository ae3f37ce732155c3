"""Which family a caller decides for when both answer, and when only one does."""

from __future__ import annotations

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.traversal.prober import LEAST_GRACE_S, Part, Prober
from lab.peer.traversal.seal import Agreement

ALICE = {4: Endpoint("198.51.100.1", 4000), 6: Endpoint("2001:db8:1::1", 4000)}
BOB = {4: Endpoint("198.51.100.2", 4000), 6: Endpoint("2001:db8:2::2", 4000)}
TICK = 0.005


class Pair:
    """A caller and a callee, with a one-way delay for each family; None for a dead one."""

    def __init__(self, delay: dict[int, float | None]):
        one, other = Agreement(), Agreement()
        ours = one.seal(b"sessionX", other.ephemeral, b"t", caller=True)
        theirs = other.seal(b"sessionX", one.ephemeral, b"t", caller=False)
        more = {"now": 0.0, "until": 2.0, "kind": "punch"}
        self.caller = Prober(ours, Part.CALLER, BOB.values(), **more)
        self.callee = Prober(theirs, Part.PASSIVE_CALLEE, (), **more)
        self.delay = delay
        self.wire: list[tuple[float, Prober, Endpoint, bytes]] = []

    def run(self, until: float = 2.0) -> None:
        for step in range(int(until / TICK)):
            now = step * TICK
            for prober, mine, other in (
                (self.caller, ALICE, self.callee),
                (self.callee, BOB, self.caller),
            ):
                for due, to, source, data in [each for each in self.wire if each[0] <= now]:
                    if to is prober:
                        self.wire.remove((due, to, source, data))
                        prober.receive(data, source, now)
                deadline = prober.deadline()
                if deadline is not None and deadline <= now:
                    prober.tick(now)
                for datagram in prober.take():
                    family = datagram.destination.family
                    delay = self.delay[family]
                    if delay is not None:
                        packet = now + delay, other, mine[family], datagram.payload
                        self.wire.append(packet)
            if self.caller.complete and self.callee.complete:
                return


@pytest.mark.parametrize(
    ("delay", "family"),
    [
        ({4: 0.01, 6: 0.01}, 6),
        ({4: 0.01, 6: 0.05}, 6),
        ({4: 0.2, 6: 0.3}, 6),
        ({4: 0.01, 6: 0.3}, 4),
        ({4: 0.01, 6: None}, 4),
        ({4: None, 6: 0.01}, 6),
    ],
)
def test_ipv6_is_taken_unless_it_is_much_slower(delay, family):
    pair = Pair(delay)
    pair.run()
    assert pair.caller.complete
    assert pair.callee.complete
    assert pair.caller.nominated == BOB[family]
    assert pair.callee.nominated == ALICE[family]


def test_a_dead_family_costs_a_moment():
    pair = Pair({4: 0.01, 6: None})
    pair.run()
    assert pair.caller.complete_at < 2 * LEAST_GRACE_S
