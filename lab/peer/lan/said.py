"""What a peer says of itself on its network: its addresses, and its service (RFC 6763).

Under its name: A and AAAA records, and a TXT record with where it takes signals
and its key.  The same is a service of the type `_lab._udp`, which any browser of
DNS-SD lists: a PTR record leads to it, SRV and TXT records describe it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.peer.lan import dns
from lab.peer.lan.dns import Message, Record

DOMAIN = "local"
SERVICE = f"_lab._udp.{DOMAIN}"
BROWSED = f"_services._dns-sd._udp.{DOMAIN}"
"""Who asks for this wants to know what types of services there are (RFC 6763, section 9)."""
LASTING_S = 4500
"""The time to live of what does not change with an address (RFC 6762, section 10)."""


def host(name: str, places: Sequence[Endpoint], key: str) -> tuple[Record, ...]:
    """The records of `name`, which takes signals at `places`, one of each family."""
    return (
        *(
            Record(name, dns.AAAA if place.family == 6 else dns.A, _packed(place), unique=True)
            for place in places
        ),
        Record(name, dns.TXT, _about(places, key), unique=True),
    )


def everything(name: str, places: Sequence[Endpoint], key: str) -> tuple[Record, ...]:
    """`host`, and the service: what is unique, then what others may have as well."""
    instance = f"{name.removesuffix(f'.{DOMAIN}')}.{SERVICE}"
    at = dns.service(places[0].port, name.lower())
    return (
        *host(name, places, key),
        Record(instance, dns.SRV, at, unique=True),
        Record(instance, dns.TXT, _about(places, key), LASTING_S, unique=True),
        Record(SERVICE, dns.PTR, dns.pointer(instance.lower()), LASTING_S),
        Record(BROWSED, dns.PTR, dns.pointer(SERVICE), LASTING_S),
    )


def places(told: dict[str, str]) -> Iterator[Endpoint]:
    """Where whoever told this in a TXT record takes signals."""
    for key in ("at", "at6"):
        if key in told:
            try:
                yield Endpoint.parse(told[key])
            except ValueError:
                continue


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and what the asker is likely to ask next."""

    answers: tuple[Record, ...]
    more: tuple[Record, ...]


def reply(records: Sequence[Record], query: Message) -> Reply:
    """What of one's own `records` answers a query, without what the asker knows already.

    For a name of one's own without records of that type there is one that says so
    (NSEC; RFC 6762, section 6.1).
    """
    # Who has heard an answer, not long ago, says so (section 7.1).
    known = {(it.name, it.type, it.data): it.ttl_s for it in query.answers}
    found: dict[Record, None] = {}
    for name, kind in query.questions:
        named = [it for it in records if it.name.lower() == name.lower()]
        hits = [it for it in named if kind in (it.type, dns.ANY)]
        if not hits and any(it.unique for it in named):
            hits = [_no_others(named)]
        found |= dict.fromkeys(hits)
    answers = [
        it for it in found if known.get((it.name.lower(), it.type, it.data), 0) * 2 < it.ttl_s
    ]
    more = dict.fromkeys(it for answer in answers for it in _next(answer, records))
    return Reply(tuple(answers), tuple(it for it in more if it not in answers))


def _next(answer: Record, records: Sequence[Record]) -> list[Record]:
    """What is likely to be asked after `answer` (RFC 6763, section 12; RFC 6762, section 6.2)."""
    if answer.type == dns.PTR:
        instance = [it for it in records if dns.pointer(it.name.lower()) == answer.data]
        return [*instance, *(it for one in instance for it in _next(one, records))]
    addresses = [it for it in records if it.type in (dns.A, dns.AAAA)]
    if answer.type not in (dns.A, dns.AAAA, dns.SRV) or not addresses:
        return []
    if len(addresses) == 1:
        addresses.append(_no_others([it for it in records if it.name == addresses[0].name]))
    return addresses


def _no_others(named: Sequence[Record]) -> Record:
    """That a name has records of no other types than these."""
    name = named[0].name
    there = sorted({it.type for it in named})
    return Record(name, dns.NSEC, dns.kinds(name.lower(), *there), unique=True)


def _packed(place: Endpoint) -> bytes:
    return ipaddress.ip_address(place.address).packed


def _about(places: Sequence[Endpoint], key: str) -> bytes:
    first, *others = places
    return dns.texts(f"at={first}", *(f"at6={other}" for other in others), f"key={key}")
