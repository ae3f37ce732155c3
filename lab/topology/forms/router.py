"""Routers and switches in a file: the networks that nodes are attached to."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from lab.topology.addresses import Written, prefixes
from lab.topology.forms.attached import AttachedForm, IpField, one_or_two
from lab.topology.forms.form import Form
from lab.topology.forms.nat import NatForm, PortMappingForm
from lab.topology.problems import WrongValueError, show

NAT64_PREFIX = "64:ff9b::/96"
"""Well known (RFC 6052, section 2.1)."""
_NAT64_HELP = "write nat64: true, or a prefix of 96 bits such as 2a02:64::/96 (RFC 6052)"


def _nat64(value: Any) -> Any:
    """The prefix: true for the well-known one, empty for none."""
    if isinstance(value, bool):
        return NAT64_PREFIX if value else ""
    try:
        prefix = ipaddress.IPv6Network(value if isinstance(value, str) else "")
    except ValueError:
        raise WrongValueError(f"{show(value)} is not an IPv6 prefix", _NAT64_HELP) from None
    if prefix.prefixlen != 96:
        raise WrongValueError(f"{show(value)} has {prefix.prefixlen} bits", _NAT64_HELP)
    if prefix.is_multicast or prefix.is_link_local or prefix.is_loopback or prefix.is_unspecified:
        raise WrongValueError(f"{show(value)} is not routed anywhere", _NAT64_HELP)
    return str(prefix)


Nat64Field = Annotated[
    str, BeforeValidator(_nat64), WithJsonSchema({"type": ["boolean", "string"]})
]


LanField = Annotated[
    Written, BeforeValidator(prefixes), one_or_two("A prefix: 192.168.1.0/24, 2a02:5::/64")
]


class RouterForm(AttachedForm):
    """A router with a LAN behind it."""

    nat: NatForm | None = Field(None, description="How it translates; absent, it does not.")
    port_mapping: PortMappingForm | None = Field(
        None, description="By what hosts inside may ask for external ports; absent, by nothing."
    )
    ip: IpField | None = Field(
        None, description="What its LAN has; absent, what the network has that it is attached to."
    )
    nptv6: bool = Field(
        False,
        description="Its LAN has unique local addresses, which it translates one to one "
        "(RFC 6296).",
    )
    nat64: Nat64Field | None = Field(
        None,
        description="Its LAN, without IPv4, reaches IPv4 by a prefix: true for 64:ff9b::/96 "
        "(RFC 6146), with DNS64.",
    )
    lan: LanField | None = Field(
        None,
        description="The prefix of its LAN, of IPv4 or IPv6 (a /64), or one of each; assigned if "
        "absent.",
    )

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value


class SwitchForm(Form):
    """A network of hosts alone, without a router: they claim their addresses (RFC 3927)."""

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value
