"""The longest packet that passes a link."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from lab.verify.links import frames
from lab.verify.links.bearings import Bearings
from lab.verify.links.words import Interval, finding
from lab.verify.report import LinkDimension, LinkFinding

Passes = Callable[[Mapping[int, int]], Mapping[int, bool]]
"""Whether a packet of so many bytes passes, for directions by their number, all at once."""


def findings(
    abouts: Sequence[Bearings], passes: Passes, passed: Collection[tuple[str, str, str]]
) -> list[LinkFinding]:
    """One finding for each direction: what is declared passes, and no byte more.

    Through directions in `passed` it did.

    Where that isn't so, the longest that does is looked for, by halves.
    """
    declared = {number: about.link.mtu for number, about in enumerate(abouts)}
    full = dict.fromkeys(declared, True)
    full |= passes(
        {n: about.link.mtu for n, about in enumerate(abouts) if about.where not in passed}
    )
    more = passes({number: mtu + 1 for number, mtu in declared.items()})
    shortest = frames.SMALLEST - frames.HEADER
    # Between what passes and what doesn't.
    bounds = {
        number: (mtu + 1, 65_535) if more[number] else (shortest, mtu)
        for number, mtu in declared.items()
        if more[number] or not full[number]
    }
    while open_ := {n: (low + high) // 2 for n, (low, high) in bounds.items() if high - low > 1}:
        for number, through in passes(open_).items():
            low, high = bounds[number]
            bounds[number] = (open_[number], high) if through else (low, open_[number])
    found = []
    for number, about in enumerate(abouts):
        mtu = float(bounds[number][0] if number in bounds else declared[number])
        found.append(
            finding(
                about.where,
                LinkDimension.MTU,
                float(about.link.mtu),
                Interval(mtu, mtu, mtu),
                "bytes",
                2,
                ok=number not in bounds,
            )
        )
    return found
