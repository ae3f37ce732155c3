"""Two NATs, or two chains of NATs, that face each other: the rule in closed form.

It is what acting out the technique comes to (`lab.predict.techniques`), so
short that a person can check it, and it is checked against that and against
the kernel for all 81 ordered pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from lab.topology.behaviour import Dependence

_EIM = _EIF = Dependence.ENDPOINT_INDEPENDENT
_ADF = Dependence.ADDRESS_DEPENDENT
_APDF = Dependence.ADDRESS_AND_PORT_DEPENDENT
_ORDER = tuple(Dependence)
_MAPPING = dict(zip(_ORDER, ("EIM", "ADM", "APDM"), strict=True))
_FILTERING = dict(zip(_ORDER, ("EIF", "ADF", "APDF"), strict=True))


class Kind(NamedTuple):
    """One of the nine kinds of NAT (RFC 4787, sections 4.1 and 5)."""

    mapping: Dependence
    filtering: Dependence

    def __str__(self) -> str:
        return f"{_MAPPING[self.mapping]}/{_FILTERING[self.filtering]}"


KINDS = tuple(Kind(mapping, filtering) for mapping, filtering in itertools.product(_ORDER, _ORDER))
"""All nine, from the most open to the strictest of each mapping."""


def admits(y: Kind, x: Kind) -> bool:
    """Whether Y lets in what is sent from behind X to the endpoint that Y's inside learned.

    It does so if it filters nothing.  Otherwise the inside has to have sent to
    X by that very mapping, so Y's mapping must not depend on the destination;
    and if Y looks at ports, X has to send from the one that it learned as well.
    """
    if y.filtering is _EIF:
        return True
    if y.mapping is not _EIM:
        return False
    return y.filtering is _ADF or x.mapping is _EIM


def punches(x: Kind, y: Kind) -> bool:
    """Whether hole punching connects two peers behind X and Y.

    One direction is enough: whoever hears a packet answers to where it came
    from.  For TCP it is the same, if each peer listens on the port from which
    it connects: a SYN is admitted like a datagram, the answer passes like one,
    and a SYN from a port that the receiver did not name finds the listener
    (RFC 5128, section 3.4).
    """
    return admits(y, x) or admits(x, y)


def chains_punch(xs: Sequence[Kind], ys: Sequence[Kind]) -> bool:
    """`punches` for chains of NATs that meet in the internet, innermost first.

    See `lab.predict.techniques` for why, and for what it says of chains that
    are `touchy`, where the rule is what NATs could do and not what they do.
    """
    return _chain_admits(ys, xs) or _chain_admits(xs, ys)


def touchy(chain: Sequence[Kind]) -> bool:
    """Whether it matters to a chain (innermost first) which packet comes first.

    So it is if a NAT that filters ports has one outside it that gives flows
    several ports and lets everybody in.
    """
    return any(
        outer.filtering is _EIF
        and _most_dependent(chain[: index + 1]) is not _EIM
        and any(inner.filtering is _APDF for inner in chain[:index])
        for index, outer in enumerate(chain)
    )


def _chain_admits(ys: Sequence[Kind], xs: Sequence[Kind]) -> bool:
    sender = Kind(_most_dependent(xs), _EIF)
    return all(
        admits(Kind(_most_dependent(ys[: index + 1]), y.filtering), sender)
        for index, y in enumerate(ys)
    )


def _most_dependent(chain: Sequence[Kind]) -> Dependence:
    return max((kind.mapping for kind in chain), key=_ORDER.index, default=_EIM)
