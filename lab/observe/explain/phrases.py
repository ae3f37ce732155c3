"""Pieces of sentences: lists, counts, and where packets were stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from lab.observe.explain.fates import Fate
from lab.observe.explain.tale import Side, Told

SPOKEN: Mapping[str, str] = MappingProxyType({"upnp": "UPnP", "nat-pmp": "NAT-PMP", "pcp": "PCP"})
"""Techniques that ask the router for a port, and by which protocol."""

_STOPPED = (Fate.DROPPED, Fate.REFUSED, Fate.LOST)


def count(number: int, noun: str) -> str:
    """`1 packet`, `7 packets`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def times(number: int) -> str:
    """`once`, `twice`, `7 times`."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def names(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]


def joined(parts: Iterable[str]) -> str:
    """Main clauses side by side."""
    return "; ".join(parts)


def article(noun: str) -> str:
    """`a probe`, `an ICE check`, `a SYN`."""
    vowel = noun[:1] in "aeioAEIO" or noun[:1] == "u"
    return f"{'an' if vowel else 'a'} {noun}"


def stopped(sent: Iterable[Told]) -> Iterator[str]:
    """Where packets were stopped, most first, and by what."""
    found: Counter[tuple[Fate, str, str, str]] = Counter()
    for one in sent:
        journey = one.journey
        if journey.fate in _STOPPED:
            found[journey.fate, journey.end, journey.source, journey.cause] += 1
    for (fate, node, source, cause), number in found.most_common():
        packets = f"{count(number, 'packet')} from {source}"
        if fate is Fate.LOST:
            was = "was" if number == 1 else "were"
            yield (
                f"{packets} {was} {cause}" if "lost" in cause else f"{packets} {was} lost: {cause}"
            )
        else:
            verb = "refused" if fate is Fate.REFUSED else "dropped"
            yield f"{node_name(node)} {verb} {packets} ({cause})"


def node_name(name: str) -> str:
    """What a node is called in a sentence."""
    return "the internet" if name == "internet" else name


def both(local: Side, remote: Side) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
    """Each side with the other one."""
    return (local, remote), (remote, local)
