"""The character of one direction of a link: what a form changes of it, and what makes no sense."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from lab.topology.character import (
    Bursts,
    DataFile,
    Discipline,
    Distribution,
    Impairment,
    LossPattern,
    Order,
    Queue,
    QueueUnit,
)
from lab.topology.forms.link import ImpairmentForm
from lab.topology.problems import WrongValueError
from lab.topology.units import format_duration

_ETHERNET_HEADER = 14

_SAME_WORD = {
    "reorder": "reorder",
    "duplicate": "duplicate",
    "corrupt": "corrupt",
    "delay": "delay_us",
    "rate": "rate_bit",
    "order": "order",
    "correlation": "correlation",
    "queue": "queue",
    "discipline": "discipline",
}
"""Keys of a file whose value is a field of the behaviour, and that field."""


def overlay_impairment(base: Impairment, form: ImpairmentForm) -> Impairment:
    """`base` with what `form` says.

    No jitter forgets how it was distributed, no transmitter what waited
    before it, and a rate the trace in its place; one kind of loss replaces
    the others.
    """
    changes: dict[str, Any] = {}
    if form.jitter is not None:
        changes["jitter_us"] = form.jitter
        if not form.jitter:
            changes |= {
                "distribution": Distribution.UNIFORM,
                "table": None,
                "correlation": 0.0,
                "order": Order.KEEP,
            }
    if form.rate is not None:
        changes["trace"] = None
    if isinstance(form.trace, DataFile):
        changes |= {"trace": form.trace, "rate_bit": 0}
    elif form.trace is not None:
        changes["trace"] = None
    if form.loss is not None:
        changes |= _losses(form.loss)
    if form.distribution is not None:
        is_file = isinstance(form.distribution, DataFile)
        changes |= {
            "distribution": Distribution.TABLE if is_file else form.distribution,
            "table": form.distribution if is_file else None,
        }
    for key, field in _SAME_WORD.items():
        if (value := getattr(form, key)) is not None:
            changes[field] = value
    found = replace(base, **changes)
    if base.limited and not found.limited:
        queue = found.queue if form.queue else Queue()
        found = replace(found, queue=queue, discipline=form.discipline or Discipline.DROP_TAIL)
    return found


def _losses(loss: float | Bursts | LossPattern) -> dict[str, Any]:
    return {
        "loss": 0.0 if isinstance(loss, Bursts | LossPattern) else loss,
        "bursts": loss if isinstance(loss, Bursts) else None,
        "pattern": loss if isinstance(loss, LossPattern) else None,
    }


def check_impairment(
    found: Impairment, mtu: int, both: ImpairmentForm, one: ImpairmentForm | None, way: str
) -> None:
    """Raise WrongValueError if what `found` says together makes no sense.

    Its place is that of the first key concerned which the forms for `both`
    directions and for this `one` (`up` or `down`) name.
    """
    wrong = _nonsense(found, mtu, both, one)
    if wrong is None:
        return
    keys, message, remedy = wrong
    for key in keys:
        if one is not None and getattr(one, key, None) is not None:
            raise WrongValueError(message, remedy, (way, key))
        if getattr(both, key, None) is not None:
            raise WrongValueError(message, remedy, (key,))
    raise WrongValueError(message, remedy)


def _nonsense(
    found: Impairment, mtu: int, both: ImpairmentForm, one: ImpairmentForm | None
) -> tuple[tuple[str, ...], str, str] | None:
    """The keys concerned, what is wrong, and the remedy; None if all is well."""
    written = [form for form in (one, both) if form is not None]
    if any(form.rate and isinstance(form.trace, DataFile) for form in written):
        return (
            ("trace", "rate"),
            "a trace says when packets leave, and so does a rate",
            "keep one of the two",
        )
    jitter, delay = format_duration(found.jitter_us), format_duration(found.delay_us)
    if found.jitter_us > found.delay_us and found.order is Order.KEEP:
        if not found.delay_us:
            return (
                ("jitter",),
                f"a jitter of {jitter} strays from a delay, and there is none",
                f"add delay: {jitter} or more, or order: free",
            )
        return (
            ("jitter", "delay"),
            f"a jitter of {jitter} is above the delay of {delay}, and packets keep their order",
            f"write jitter: {delay} or less, a longer delay, or order: free",
        )
    if not found.jitter_us:
        for key, written_one in (
            ("distribution", found.distribution is not Distribution.UNIFORM),
            ("correlation", bool(found.correlation)),
            ("order", found.order is Order.FREE),
        ):
            if written_one:
                return (key,), f"{key} says how jitter is, and there is none", "add jitter: 5ms"
    if found.reorder and not found.delay_us:
        return (
            ("reorder", "delay"),
            "packets that don't wait for the delay overtake nobody where there is no delay",
            "add delay: 10ms, or leave reorder out",
        )
    for key, given in (
        ("queue", found.queue != Queue()),
        ("discipline", found.discipline is not Discipline.DROP_TAIL),
    ):
        if given and not found.limited:
            return (key,), "nothing waits where nothing holds it up", "add rate: 10mbit"
    frame = mtu + _ETHERNET_HEADER
    if found.queue.unit is QueueUnit.BYTES and found.queue.length < frame:
        return (
            ("queue", "mtu"),
            f"a full frame of {frame} bytes does not fit into a queue of {found.queue.length:.0f}",
            "write a longer queue, or a smaller mtu",
        )
    return None
