"""The timeline in a file: what happens while the lab runs, when and to what."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from lab.topology.forms.firewall import FirewallForm
from lab.topology.forms.form import Form
from lab.topology.forms.link import LinkForm
from lab.topology.forms.nat import NatForm
from lab.topology.forms.values import between, text_schema
from lab.topology.partition import parse_partition
from lab.topology.problems import WrongValueError, show
from lab.topology.units import (
    DURATION_HELP,
    parse_duration,
)

_MONTH_US = 720 * 3_600_000_000
_SHORTEST_SPAN_US = 10_000
"""A change takes some milliseconds itself."""


def _moment(value: Any) -> Any:
    if isinstance(value, str) and value.strip().startswith("-"):
        raise WrongValueError(
            f"{show(value)} is before the lab is up", "moments count from then on: at: 20s"
        )
    return between(0, _MONTH_US, parse_duration(value), "a lab lives for at most 720h", value)


def _span(value: Any) -> Any:
    us = parse_duration(value)
    if us < _SHORTEST_SPAN_US:
        raise WrongValueError(f"{show(value)} is too short", "write at least 10ms")
    return between(0, _MONTH_US, us, "a span is at most 720h", value)


def _link_ends(value: Any) -> Any:
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) != 2 or not all(isinstance(w, str) for w in words):
        raise WrongValueError(
            f"{show(value)} does not name a link", "write its ends: [alice, home]"
        )
    if words[0] == words[1]:
        raise WrongValueError(f"{show(value)} names one end twice", "write both: [alice, home]")
    return tuple(words)


LinkEnds = Annotated[
    tuple[str, str],
    BeforeValidator(_link_ends),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}),
]
PartitionField = Annotated[
    tuple[tuple[str, ...], ...],
    BeforeValidator(parse_partition),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array"}]}),
]


MomentField = Annotated[
    int, BeforeValidator(_moment), text_schema(f"Since the lab was up. {DURATION_HELP}")
]
SpanField = Annotated[int, BeforeValidator(_span), text_schema(DURATION_HELP)]


class SetForm(LinkForm):
    """What changes: a router's NAT, a firewall, or a link in the words of links."""

    terse: ClassVar[str] = ""

    router: str | None = Field(None, description="A router; with a count, all of them or one.")
    node: str | None = Field(None, description="A node; with a count, all of them or one.")
    nat: NatForm | None = Field(None, description="Its NAT from then on.")
    firewall: FirewallForm | None = Field(None, description="Its firewall from then on.")
    link: LinkEnds | None = Field(
        None,
        description="The two ends of a link: [alice, home]. The other keys say what it is like "
        "from then on; without a preset they change what is declared.",
    )


class MoveForm(Form):
    """A host that roams: it leaves its router or switch, and gets another address elsewhere."""

    node: str = Field(description="The host.")
    to: str = Field(description="The router or switch that it comes to.")
    link: LinkForm | None = Field(None, description="Its link there; absent, as before.")


class HappeningForm(Form):
    """Something that happens while the lab runs; each entry is one thing."""

    at: MomentField = Field(description="When, counted from the moment the lab is up.")
    set_: SetForm | None = Field(None, description="Changes a behaviour.")
    reboot: str | None = Field(None, description="A router that loses all its state.")
    flush: str | None = Field(None, description="A router whose NAT forgets its mappings.")
    down: LinkEnds | None = Field(None, description="A link that is cut: [alice, home].")
    up: LinkEnds | None = Field(None, description="A link that is whole again.")
    stop: str | None = Field(None, description="A node whose program is stopped.")
    start: str | None = Field(None, description="A node whose program is started again.")
    pause: str | None = Field(None, description="A node in which everything holds still.")
    resume: str | None = Field(None, description="A node in which everything goes on.")
    partition: PartitionField | None = Field(
        None,
        description="Groups that can't reach one another: alice, bob / carol. Names are nodes, "
        "routers with all behind them, or regions; one group is kept apart from the rest.",
    )
    heal: Literal[True] | None = Field(None, description="Every partition ends.")
    move: MoveForm | None = Field(
        None, description="A host that leaves its router or switch for another."
    )
    for_: SpanField | None = Field(None, description="How long; then it is undone.")
    every: SpanField | None = Field(None, description="Happens again each time this has passed.")
    times: int | None = Field(None, ge=1, le=1_000_000, description="How often, with every.")
    jitter: SpanField | None = Field(
        None, description="Each time up to so much later, drawn with the seed."
    )
