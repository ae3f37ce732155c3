"""What routers and nodes have in common: where they are attached, and by which addresses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from lab.topology.addresses import Written, addresses
from lab.topology.forms.firewall import FirewallForm
from lab.topology.forms.form import Form
from lab.topology.forms.link import LinkForm
from lab.topology.forms.values import between, one_word, whole
from lab.topology.model import INTERNET, Ip
from lab.topology.problems import WrongValueError, one_of, show

MAX_COUNT = 10_000


def _count(value: Any) -> Any:
    whole(value, "a count", "write a whole number")
    return between(1, MAX_COUNT, value, f"a count is 1 to {MAX_COUNT}")


def _ip(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    return one_word(Ip, str(value) if number else value)


_NETWORK_IPS = (Ip.V4, Ip.V6, Ip.DUAL)


def _network_ip(value: Any) -> Any:
    if value == Ip.LINK_LOCAL:
        raise WrongValueError(
            f"{value} is for nodes", "write it at each, or attach them to a switch without a router"
        )
    if str(value) not in _NETWORK_IPS:
        words = list(map(str, _NETWORK_IPS))
        raise WrongValueError(
            f"unknown word {show(str(value))}", one_of(str(value), words, "words")
        )
    return _ip(value)


def one_or_two(description: str) -> WithJsonSchema:
    several = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
    return WithJsonSchema({"anyOf": [{"type": "string"}, several], "description": description})


CountField = Annotated[
    int,
    BeforeValidator(_count),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_COUNT}),
]


_IPS: list[int | str] = [4, 6, "4", "6", "dual"]
IpField = Annotated[Ip, BeforeValidator(_network_ip), WithJsonSchema({"enum": _IPS})]
NodeIpField = Annotated[
    Ip, BeforeValidator(_ip), WithJsonSchema({"enum": [*_IPS, str(Ip.LINK_LOCAL)]})
]


AddressField = Annotated[
    Written, BeforeValidator(addresses), one_or_two("An address of IPv4 or IPv6, or one of each")
]


class AttachedForm(Form):
    """What routers and nodes have in common."""

    via: str = Field(INTERNET, description="The router it is attached to, or internet (default).")
    region: str | None = Field(
        None, description="Where it is attached to an internet that has regions."
    )
    link: LinkForm | None = Field(None, description="The link to `via`.")
    firewall: FirewallForm | None = Field(None, description="What it lets pass.")
    address: AddressField | None = Field(
        None, description="Its address there, of IPv4 or IPv6, or one of each; assigned if absent."
    )
    count: CountField | None = Field(
        None,
        description="As many alike, named name-1, name-2, ... Behind a counted router they are "
        "dealt out evenly, in order: with equal counts one to each.",
    )
