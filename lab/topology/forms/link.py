"""A link in a file: one direction of it, an access link, and the internet between them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from lab.topology.forms.character import (
    DisciplineField,
    DistributionField,
    LossesField,
    OrderField,
    QueueField,
    TraceField,
)
from lab.topology.forms.form import Form
from lab.topology.forms.values import between, one_word, text_schema, whole, word_schema
from lab.topology.model import WantedBackend
from lab.topology.units import (
    DURATION_HELP,
    PROBABILITY_HELP,
    RATE_HELP,
    parse_duration,
    parse_probability,
    parse_rate,
)

_HOUR_US = 3_600_000_000


def _delay(value: Any) -> Any:
    return between(0, _HOUR_US, parse_duration(value), "a delay is at most 1h", value)


def _link_rate(value: Any) -> Any:
    rate = parse_rate(value)
    return between(1_000, 10**12, rate, "rates are 1kbit to 1000gbit", value) if rate else 0


def _mtu(value: Any) -> Any:
    whole(value, "a number of bytes", "write mtu: 1500")
    return between(68, 65_535, value, "an IPv4 MTU is 68 (RFC 791) to 65535 bytes; usual is 1500")


RegionsField = Annotated[Any, WithJsonSchema({"type": ["string", "object"]})]


DelayField = Annotated[int, BeforeValidator(_delay), text_schema(f"One way. {DURATION_HELP}")]
RateField = Annotated[int, BeforeValidator(_link_rate), text_schema(RATE_HELP)]
LossField = Annotated[
    float,
    BeforeValidator(parse_probability),
    WithJsonSchema({"type": ["string", "number"], "description": PROBABILITY_HELP}),
]
MtuField = Annotated[
    int,
    BeforeValidator(_mtu),
    WithJsonSchema({"type": "integer", "minimum": 68, "maximum": 65_535}),
]


BackendField = Annotated[
    WantedBackend, BeforeValidator(partial(one_word, WantedBackend)), word_schema(WantedBackend)
]


class ImpairmentForm(Form):
    """The character of one direction of a link."""

    rate: RateField | None = Field(None, description="How much passes.")
    delay: DelayField | None = Field(None, description="How long a packet takes, one way.")
    jitter: DelayField | None = Field(None, description="How far the delay strays.")
    distribution: DistributionField | None = Field(
        None, description="How jitter is distributed: a word (default uniform) or a table's file."
    )
    correlation: LossField | None = Field(
        None, description="How much of a packet's jitter is that of the packet before."
    )
    order: OrderField | None = Field(
        None, description="Whether jitter may let packets overtake (free) or not (keep, default)."
    )
    loss: LossesField | None = Field(None, description="How many packets are lost, or which.")
    reorder: LossField | None = Field(
        None, description="How many packets overtake: they do not wait for the delay."
    )
    duplicate: LossField | None = Field(None, description="How many packets arrive twice.")
    corrupt: LossField | None = Field(None, description="How many packets have one bit inverted.")
    queue: QueueField | None = Field(
        None, description="How much waits where the rate holds it up. Default 1 bdp."
    )
    discipline: DisciplineField | None = Field(
        None, description="What the queue does before it is full. Default drop-tail."
    )
    trace: TraceField | None = Field(
        None, description="Instead of a rate: a packet-delivery trace of mahimahi's. none for none."
    )


class LinkForm(ImpairmentForm):
    """An access link: a preset's name, or figures for both directions or each.

    What it says holds for each direction; `up` and `down` change it for what
    leaves and what comes.
    """

    terse: ClassVar[str] = "preset"

    preset: str | None = Field(None, description="What the other keys change.")
    mtu: MtuField | None = Field(None, description="Largest packet in bytes. Default 1500.")
    backend: BackendField | None = Field(
        None, description="What carries the impairments: lab chooses (auto) unless told."
    )
    up: ImpairmentForm | None = Field(None, description="What leaves the router or node.")
    down: ImpairmentForm | None = Field(None, description="What comes to the router or node.")


class InternetForm(Form):
    """The core between all networks: a delay, or delay, loss and the rate of an attachment."""

    terse: ClassVar[str] = "delay"

    rate: RateField | None = Field(None, description="How much passes.")
    delay: DelayField | None = Field(None, description="How long a packet takes, one way.")
    loss: LossField | None = Field(None, description="How many packets are lost.")
    regions: RegionsField | None = Field(
        None,
        description="Instead of one delay, the round trips between regions: a matrix by name "
        "(world), a file (./rtt.csv, ./rtt.yaml), or europe: {europe: 8ms, asia: 180ms}.",
    )
