"""A NAT in a file: its choices in the words of RFC 4787, and how hosts ask it for ports."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from lab.topology.behaviour import (
    Dependence,
    Hairpin,
    Pooling,
    PortPolicy,
    Refresh,
    Unsolicited,
)
from lab.topology.forms.form import Form
from lab.topology.forms.values import between, one_word, text_schema, word_schema
from lab.topology.problems import WrongValueError, each, show
from lab.topology.rules import parse_ports
from lab.topology.units import (
    parse_duration,
)

_DEPENDENCE_SHORT = {
    "eim": Dependence.ENDPOINT_INDEPENDENT,
    "adm": Dependence.ADDRESS_DEPENDENT,
    "apdm": Dependence.ADDRESS_AND_PORT_DEPENDENT,
    "eif": Dependence.ENDPOINT_INDEPENDENT,
    "adf": Dependence.ADDRESS_DEPENDENT,
    "apdf": Dependence.ADDRESS_AND_PORT_DEPENDENT,
}


def _lifetime(value: Any) -> Any:
    us = parse_duration(value)
    if us % 1_000_000 or not us:
        raise WrongValueError(f"{show(value)} is not whole seconds", "write 30s, 2m or 2h")
    return between(1, 10 * 86_400, us // 1_000_000, "a lifetime is at most 240h", value)


_PORT_MAPPING_WORDS = {"upnp": "upnp", "pcp": "pcp", "nat-pmp": "pcp"}
_PORT_MAPPING_HELP = f"write one of {', '.join(_PORT_MAPPING_WORDS)}, a list, true or false"


def _port_mapping(value: Any) -> Any:
    """The protocols: PCP's and NAT-PMP's names mean both, as they share a port."""
    if isinstance(value, bool):
        return ["upnp", "pcp"] if value else []
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list):
        raise WrongValueError(f"{show(value)} is not a protocol", _PORT_MAPPING_HELP)
    return list(dict.fromkeys(each(enumerate(words), _port_mapping_word)))


def _port_mapping_word(word: Any) -> str:
    if word not in _PORT_MAPPING_WORDS:
        raise WrongValueError(f"{show(word)} is not a protocol", _PORT_MAPPING_HELP)
    return _PORT_MAPPING_WORDS[word]


_HAIRPIN_SWITCH = {True: Hairpin.EXTERNAL_SOURCE, False: Hairpin.OFF}


LifetimeField = Annotated[
    int, BeforeValidator(_lifetime), text_schema("Whole seconds: 30s, 2m, 2h")
]
PortRange = Annotated[
    tuple[int, int],
    BeforeValidator(parse_ports),
    WithJsonSchema({"type": ["string", "integer"], "description": "1024-65535"}),
]


_PORT_MAPPING = {"enum": list(_PORT_MAPPING_WORDS)}
PortMappingField = Annotated[
    list[str],
    BeforeValidator(_port_mapping),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, _PORT_MAPPING, {"type": "array", "items": _PORT_MAPPING}]}
    ),
]


DependenceField = Annotated[
    Dependence,
    BeforeValidator(partial(one_word, Dependence, more=_DEPENDENCE_SHORT)),
    word_schema(Dependence, *_DEPENDENCE_SHORT),
]
PortPolicyField = Annotated[
    PortPolicy, BeforeValidator(partial(one_word, PortPolicy)), word_schema(PortPolicy)
]
HairpinField = Annotated[
    Hairpin,
    BeforeValidator(partial(one_word, Hairpin, more=_HAIRPIN_SWITCH)),
    word_schema(Hairpin, True, False),
]
PoolingField = Annotated[Pooling, BeforeValidator(partial(one_word, Pooling)), word_schema(Pooling)]
RefreshField = Annotated[Refresh, BeforeValidator(partial(one_word, Refresh)), word_schema(Refresh)]
UnsolicitedField = Annotated[
    Unsolicited, BeforeValidator(partial(one_word, Unsolicited)), word_schema(Unsolicited)
]


class PortsForm(Form):
    """The port policy of a NAT (RFC 4787, section 4.2)."""

    terse: ClassVar[str] = "policy"

    policy: PortPolicyField = Field(
        PortPolicy.PRESERVE,
        description="How a new mapping chooses its port: the internal one, a random one, the "
        "next one, or one of the subscriber's block.",
    )
    range: PortRange = Field(
        (1024, 65535), description="First and last port to choose from: 1024-65535."
    )
    stride: int = Field(1, ge=1, le=64, description="Step between two ports, with sequential.")
    block: int = Field(0, ge=1, le=64512, description="Ports of each subscriber, with block.")
    parity: bool = Field(
        False, description="Even ports for even ones, odd for odd (RFC 4787, section 4.2.2)."
    )
    overload: bool = Field(
        False,
        description="With preserve: hosts share a port towards different destinations, as behind "
        "Linux.",
    )


class LifetimesForm(Form):
    """How long an idle mapping lives (RFC 4787 REQ-5, RFC 5382 REQ-5)."""

    udp: LifetimeField | None = Field(None, description="An idle UDP mapping. Default 120s.")
    udp_one_way: LifetimeField | None = Field(
        None, description="A UDP mapping by which nothing came in yet. As udp, if absent."
    )
    permission: LifetimeField | None = Field(
        None, description="How long who was sent to by UDP may answer. As the mapping, if absent."
    )
    refresh: RefreshField | None = Field(
        None, description="Whose packets keep UDP mappings and permissions alive. Default both."
    )
    tcp_established: LifetimeField | None = Field(
        None, description="An open connection. Default 2h4m."
    )
    tcp_transitory: LifetimeField | None = Field(
        None, description="A connection that opens or closes. Default 4m."
    )


class NatForm(Form):
    """A NAT: a preset's name, or choices of its own in the words of RFC 4787."""

    terse: ClassVar[str] = "preset"

    preset: str | None = Field(None, description="What the other keys change.")
    mapping: DependenceField | None = Field(
        None, description="What the external port depends on (RFC 4787, section 4.1)."
    )
    filtering: DependenceField | None = Field(
        None, description="Who outside may answer (RFC 4787, section 5)."
    )
    ports: PortsForm | None = Field(None, description="How external ports are chosen.")
    hairpin: HairpinField | None = Field(
        None, description="Whether inside hosts reach each other by external addresses."
    )
    unsolicited: UnsolicitedField | None = Field(
        None, description="What becomes of a packet that no mapping admits."
    )
    lifetimes: LifetimesForm | None = Field(None, description="When idle mappings end.")
    pool: int | None = Field(None, ge=1, le=64, description="How many external addresses it has.")
    pooling: PoolingField | None = Field(
        None, description="One address for all of a host (paired, default), or any (arbitrary)."
    )
    sessions: int | None = Field(
        None, ge=1, le=65_535, description="The most flows that one inside host may have open."
    )


class PortMappingForm(Form):
    """How hosts ask the router for external ports: protocols, or protocols and lifetimes."""

    protocols: PortMappingField = Field(
        default_factory=lambda: ["upnp", "pcp"],
        description="UPnP IGD; PCP and NAT-PMP, which go together.",
    )
    min_lifetime: LifetimeField | None = Field(
        None, description="The shortest lease of PCP. Default 2m."
    )
    max_lifetime: LifetimeField | None = Field(
        None, description="The longest lease of PCP and NAT-PMP. Default 24h."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_protocols(cls, value: Any) -> Any:
        return {"protocols": value} if isinstance(value, bool | str | list) else value
