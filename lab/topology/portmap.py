"""What a router's `port-mapping` means."""

from __future__ import annotations

from lab.topology.behaviour import Nat, PortMapping
from lab.topology.forms.nat import PortMappingForm
from lab.topology.problems import WrongValueError


def port_mapping(form: PortMappingForm, nat: Nat | None) -> PortMapping | None:
    """The protocols and lifetimes that `form` gives to a router with `nat`; None if switched off.

    Raises WrongValueError for a router without a NAT, and for lifetimes that
    leave none.
    """
    if not form.protocols:
        return None
    if nat is None:
        raise WrongValueError(
            "there is no NAT whose ports could be asked for",
            "write nat: home, or leave port-mapping out",
        )
    usual = PortMapping()
    mapping = PortMapping(
        upnp="upnp" in form.protocols,
        pcp="pcp" in form.protocols,
        min_lifetime_s=form.min_lifetime
        or min(usual.min_lifetime_s, form.max_lifetime or usual.max_lifetime_s),
        max_lifetime_s=form.max_lifetime or max(usual.max_lifetime_s, form.min_lifetime or 0),
    )
    if mapping.min_lifetime_s > mapping.max_lifetime_s:
        raise WrongValueError(
            f"the shortest lease, {mapping.min_lifetime_s}s, is longer than the longest, "
            f"{mapping.max_lifetime_s}s",
            f"write min-lifetime: {mapping.max_lifetime_s}s or less",
            ("min-lifetime",),
        )
    return mapping
