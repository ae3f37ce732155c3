"""How a session fared while the network changed: what broke its path, and what found another."""

from __future__ import annotations

from collections import Counter

from lab.observe.explain.events import Happened
from lab.observe.explain.fates import Fate
from lab.observe.explain.labels import Kind
from lab.observe.explain.mappings import Mapped
from lab.observe.explain.phrases import count, joined, node_name, stopped, times
from lab.observe.explain.success import how
from lab.observe.explain.tale import Repair, Story, Told
from lab.observe.explain.words import moment


def outcome(tale: Story) -> str:
    """What became of the session's path: `undisturbed`, `repaired`, `back`, `broken`, `failed`."""
    said = [one.event.get("what") for one in tale.capture.said]
    if "path" not in said:
        return "failed"
    if not tale.repairs:
        return "undisturbed"
    last = tale.repairs[-1]
    if not last.over_ns:
        return "broken"
    return "repaired" if last.by else "back"


def kept(tale: Story) -> str:
    """The account of a session, from what was seen and what its lead said."""
    if outcome(tale) == "failed":
        reason = tale.capture.record.get("reason") or "none was found"
        return f"There never was a path: {reason}."
    parts = [_happened(tale)]
    if not tale.repairs:
        parts.append(_held(tale))
    since = 0
    for repair in tale.repairs:
        parts += [_broke(tale, repair, since), _noticed(tale, repair), _repaired(tale, repair)]
        since = repair.over_ns
    return " ".join(filter(None, parts))


_GIVING_UP_NS = 10_000_000
"""The check with which a path is given up is not one that was waited for."""
_HEADS = {
    "undisturbed": "It held.",
    "repaired": "It was repaired.",
    "back": "It came back.",
    "broken": "It broke.",
}


def _happened(tale: Story) -> str:
    """What came of it, and what was done to the network."""
    what = changes(tale) or "Nothing happened to the network"
    return f"{_HEADS[outcome(tale)]} {what}."


def changes(tale: Story) -> str:
    """What was done to the network while it was looked at, and when; empty if nothing was."""
    return joined(
        f"{moment((one.began_ns - tale.began_ns) / 1e6)} after the beginning, {text}"
        for one in tale.capture.happened
        for _, text in one.what
    )


# --- nothing broke ------------------------------------------------------------


def _held(tale: Story) -> str:
    technique = next(
        (one.event.get("technique") for one in tale.capture.said if one.event["what"] == "path"), ""
    )
    text = f"The path by {technique} held"
    if again := _made_again(tale):
        one = again[0]
        text += (
            f": the next packet of {one.stop.came.source.address if one.stop.came else one.inside}"
            f" made the same mapping at {one.node} again ({one.inside} is {one.outside} outside),"
            " so the other end noticed nothing"
        )
    lost = list(stopped(_of_session(tale, 0, tale.capture.ended_ns)))
    return f"{text}. Meanwhile {joined(lost)}." if lost else f"{text}."


def _made_again(tale: Story) -> list[Mapped]:
    """Mappings that a NAT forgot and then made as they had been."""
    first: dict[tuple[object, ...], Mapped] = {}
    again = []
    for one in tale.made.mapped:
        key = (one.node, one.protocol, one.inside, one.outside)
        if key in first:
            again.append(one)
        first.setdefault(key, one)
    return again


# --- it broke -----------------------------------------------------------------


def _of_session(tale: Story, since_ns: int, until_ns: int) -> list[Told]:
    """What the session sent in a time, by whatever path."""
    return [
        one
        for one in tale.told
        if since_ns <= one.journey.began_ns <= until_ns
        and (one.label.kind is Kind.SESSION or one.label.probe == "session")
    ]


def _broke(tale: Story, repair: Repair, since_ns: int) -> str:
    """What stopped the packets of the session until its lead noticed."""
    began, until_ns = _cause(tale, repair, since_ns), repair.over_ns or tale.capture.ended_ns
    sent = _of_session(tale, began.began_ns if began else since_ns, until_ns)
    astray = [one for one in sent if one.journey.fate is Fate.VANISHED]
    parts = list(stopped(one for one in sent if one.journey.fate is not Fate.VANISHED))
    if astray:
        journey = astray[0].journey
        where = f"ended at {node_name(journey.end)} ({journey.cause})"
        parts.append(f"{count(len(astray), 'packet')} of {journey.source} {where}")
    parts += _unheard(tale, began.began_ns if began else since_ns, repair.dead_ns)
    parts += _mapped_otherwise(tale, began)
    return f"Since then {joined(parts)}." if parts else ""


def _unheard(tale: Story, since_ns: int, until_ns: int) -> list[str]:
    """Nodes that answered that no program takes what was sent to them."""
    said = Counter(
        one.journey.source
        for one in tale.told
        if one.label.kind is Kind.ERROR
        and "no such port" in one.label.text
        and since_ns <= one.journey.began_ns <= until_ns
    )
    return [f"{node} answered {times(n)} that nobody listens there" for node, n in said.items()]


def _cause(tale: Story, repair: Repair, since_ns: int) -> Happened | None:
    """The first change since the path worked last."""
    return next(
        (one for one in tale.capture.happened if since_ns <= one.began_ns <= repair.dead_ns), None
    )


def _mapped_otherwise(tale: Story, began: Happened | None) -> list[str]:
    """NATs that forgot a mapping of the session and made another one."""
    if began is None:
        return []
    said = []
    before = [one for one in tale.made.mapped if one.before and _is_session(tale, one)]
    for one in tale.made.mapped:
        for old in before:
            same = (one.node, one.protocol, one.inside) == (old.node, old.protocol, old.inside)
            if same and not one.before and one.outside != old.outside:
                said.append(
                    f"{one.node} made a new mapping for {one.inside}, {one.outside} instead of "
                    f"{old.outside}, which nobody was told of"
                )
    return said


def _is_session(tale: Story, one: Mapped) -> bool:
    return any(
        told.label.probe == "session" and any(stop is one.stop for stop in told.journey.stops)
        for told in tale.told
    )


def _noticed(tale: Story, repair: Repair) -> str:
    name = tale.local.name
    if repair.reason != "no answer":
        return f"{name} knew at once: {repair.reason}."
    asked = [
        one
        for one in _of_session(tale, 0, repair.dead_ns)
        if one.journey.source == name
        and one.label.text.endswith("check")
        and _GIVING_UP_NS < repair.dead_ns - one.journey.began_ns < repair.silent_s * 1e9
    ]
    checks = f", in which it had asked {times(len(asked))} in vain" if asked else ""
    return f"{name} noticed after {_s(repair.silent_s)} of silence{checks}."


def _repaired(tale: Story, repair: Repair) -> str:
    if not repair.over_ns:
        tried = repair_tries(tale)
        return "No other path was found while this was recorded" + (
            f" ({', '.join(tried)})." if tried else "."
        )
    if not repair.by:
        return f"The path was back after another {_s(repair.took_s)}."
    text = f"{repair.by} found another path within {_s(repair.took_s)}"
    if repair.attempt is not None and (way := how(repair.attempt)):
        text += f": {way}"
    text = text.rstrip(".") + "."
    if repair.gap_s is not None:
        text += (
            f" Between the last datagram and the next one {_s(repair.gap_s)} had passed, and "
            f"{count(repair.lost, 'datagram')} of {tale.remote.name} {_was(repair.lost)} lost."
        )
    return text


def repair_tries(tale: Story) -> list[str]:
    """What was tried in the last outage, as the session's record says it."""
    repairs = tale.capture.record.get("repairs")
    last = repairs[-1] if isinstance(repairs, list) and repairs else {}
    return list(dict.fromkeys(str(one) for one in last.get("tried") or ()))


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
