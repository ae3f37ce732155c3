"""What lasts for a time, laid over what was there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.plan.change import about, as_it_is, canonical
from lab.plan.model import Plan
from lab.topology.changes import AnyChange


@dataclass(slots=True)
class _Layer:
    key: object
    change: AnyChange
    below: AnyChange
    """What it covers."""


@dataclass(slots=True)
class Layers:
    """What lasts for a time lies over what was there before; layers end in any order.

    The undoing of a layer brings back what it covers.  If another layer lies
    over it, that one covers it from then on; if somebody set something else
    meanwhile, that stays.
    """

    _layers: list[_Layer] = field(default_factory=list)

    def laid(self, plan: Plan, key: object, changes: Sequence[AnyChange]) -> None:
        """Take note that `changes` are about to be made to `plan`, until `lifted`."""
        for change in changes:
            below = as_it_is(plan, change)
            if below is not None:
                self._layers.append(_Layer(key, canonical(plan, change), below))

    def lifted(self, plan: Plan, key: object) -> tuple[AnyChange, ...]:
        """The changes to `plan` that undo those laid with `key`; forgets them."""
        undoing: list[AnyChange] = []
        for layer in [each for each in self._layers if each.key == key]:
            place = self._layers.index(layer)
            del self._layers[place]
            over = [
                each for each in self._layers[place:] if about(each.change) == about(layer.change)
            ]
            if over and over[0].below == layer.change:
                over[0].below = layer.below
            elif not over and as_it_is(plan, layer.change) == layer.change:
                undoing.append(layer.below)
        return tuple(undoing)
