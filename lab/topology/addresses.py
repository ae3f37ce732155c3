"""Addresses and prefixes as a file has them: of IPv4, of IPv6, or one of each."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.topology.problems import WrongValueError, each, show


@dataclass(frozen=True, slots=True)
class Written:
    """An address or a prefix of each family, as text; empty for none."""

    four: str = ""
    six: str = ""

    def __str__(self) -> str:
        return " and ".join(filter(None, (self.four, self.six)))


def addresses(value: Any) -> Written:
    """The address of a node, or those of both families."""
    return _of_both(value, _address, "address", "[192.168.1.20, 2a02:5::20]")


def prefixes(value: Any) -> Written:
    """The prefix of a LAN, or those of both families."""
    return _of_both(value, _prefix, "prefix", "[192.168.5.0/24, 2a02:5::/64]")


def _of_both(value: Any, read: Callable[[Any], str], what: str, example: str) -> Written:
    texts = each(enumerate(value), read) if isinstance(value, list) else [read(value)]
    sixes = [text for text in texts if ":" in text]
    fours = [text for text in texts if ":" not in text]
    if not texts or len(sixes) > 1 or len(fours) > 1:
        raise WrongValueError(
            f"{', '.join(texts) or 'nothing'}: there is one {what} of each family",
            f"write one, or one of IPv4 and one of IPv6, such as {example}",
        )
    return Written("".join(fours), "".join(sixes))


def _address(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        # A zone (fe80::1%eth0) means nothing to other nodes.
        address = ipaddress.ip_address(text.replace("%", "/"))
    except ValueError:
        family = "IPv6" if ":" in text else "IPv4"
        example = "2a02:5::20" if ":" in text else "192.168.1.20"
        raise WrongValueError(
            f"{show(value)} is not an {family} address",
            f"write an address such as {example}, without a prefix length",
        ) from None
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise WrongValueError(f"{show(value)} can't be the address of a node", "choose another")
    if address.is_reserved or address.is_link_local:
        raise WrongValueError(f"{show(value)} is not routed anywhere", "choose another")
    return str(address)


def _prefix(value: Any) -> str:
    text = value if isinstance(value, str) and "/" in value else ""
    if ":" in text:
        return _prefix6(text)
    try:
        prefix = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise WrongValueError(
            f"{show(value)} is not an IPv4 prefix", "write a prefix such as 192.168.1.0/24"
        ) from None
    if not 8 <= prefix.prefixlen <= 30:
        raise WrongValueError(f"{show(value)} is not the size of a LAN", "use /8 to /30")
    if str(prefix) != text:
        raise WrongValueError(f"{show(value)} has bits beyond its prefix", f"write {prefix}")
    return text


def _prefix6(text: str) -> str:
    try:
        prefix = ipaddress.IPv6Network(text, strict=False)
    except ValueError:
        raise WrongValueError(
            f"{show(text)} is not an IPv6 prefix", "write a prefix such as 2a02:5::/64"
        ) from None
    if prefix.prefixlen != 64:
        raise WrongValueError(
            f"{show(text)} is not the size of a LAN",
            f"write {prefix.network_address}/64 (RFC 4291, section 2.5.1): what is delegated to "
            f"the router is around it",
        )
    if ipaddress.IPv6Address(text.partition("/")[0]) != prefix.network_address:
        raise WrongValueError(f"{show(text)} has bits beyond its prefix", f"write {prefix}")
    return str(prefix)
