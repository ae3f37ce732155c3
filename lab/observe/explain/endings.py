"""How each packet's way ended, by the network that was there when it did."""

from __future__ import annotations

from lab.observe.explain.epochs import Epochs
from lab.observe.explain.events import Capture
from lab.observe.explain.fates import Ends, Fate, takes_ns
from lab.observe.explain.stops import Stop
from lab.plan.attachment import upper_end
from lab.plan.model import Link


class Endings:
    """Says of the last stops of packets why they were the last, each by the plan of its time."""

    def __init__(self, capture: Capture) -> None:
        self._epochs = Epochs(capture)
        self._ends = [Ends(capture, plan) for plan in self._epochs.plans]

    def of(self, last: Stop) -> tuple[Fate, str]:
        """The fate of the packet whose last stop is `last`, and the cause in words."""
        index = self._epochs.at(last.went_ns or last.came_ns)
        fate, cause = self._ends[index].of(last)
        if fate is Fate.LOST and (name := self._being_changed(last, index)):
            return fate, f"lost on the link {name}, which was just being changed"
        if fate in (Fate.LOST, Fate.UNDER_WAY) and (cut := self._cut_meanwhile(last, index)):
            return Fate.LOST, cut
        return fate, cause

    def _being_changed(self, last: Stop, index: int) -> str:
        """The link that the packet left by, if it was not there before what was going on then."""
        found = self._ends[index].way_to(last)
        if found is None or found[0].down or len(self._epochs.possible(last.went_ns)) < 2:
            return ""
        before = self._ends[index - 1].way_to(last)
        return "" if before is not None and before[0].b == found[0].b else _name(found[0])

    def _cut_meanwhile(self, last: Stop, index: int) -> str:
        """That the link was cut or taken away with the packet on it; empty if it was not."""
        found = self._ends[index].way_to(last)
        if found is None or found[0].down or index + 1 == len(self._ends):
            return ""
        link, impairment = found
        begins = self._epochs.begin(index + 1)
        if last.went_ns + takes_ns(impairment) < begins:
            return ""
        later = self._ends[index + 1].way_to(last)
        if later is not None and (later[0].b == link.b and not later[0].down):
            return ""
        return f"lost on the link {_name(link)}, which was cut meanwhile"


def _name(link: Link) -> str:
    return f"{link.a.node}\N{EM DASH}{upper_end(link)}"
