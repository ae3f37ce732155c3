"""What comes from the own network: from routers, and from neighbours."""

from __future__ import annotations

import random

from lab.peer.endpoint import Endpoint
from lab.peer.lan import claim, dns
from lab.peer.lan.names import Names
from lab.peer.portmap import igd, natpmp, pcp, ssdp
from lab.peer.portmap.lease import TCP, UDP, PortmapError
from tests.fuzz.common import pieces, run


def port_mapping(data: bytes) -> None:
    """A router's answers are read or refused."""
    for protocol in (UDP, TCP):
        for read in (
            lambda: natpmp.parse_address(data),
            lambda p=protocol: natpmp.parse_mapping(data, p),
            lambda p=protocol: pcp.parse_map(data, data[24:36].ljust(12, b"\0"), p),
        ):
            try:
                read()
            except PortmapError:
                continue


def upnp(data: bytes) -> None:
    """What a device says of itself is read or refused."""
    found = ssdp.parse_found(data)
    assert found is None or found.location.isascii()
    ssdp.parse_search(data)
    ssdp.parse_notice(data)
    for read in (
        lambda: igd.parse_description(data, "http://192.168.1.1:5000/rootDesc.xml").url,
        lambda: igd.parse_answer(200, data),
        lambda: igd.parse_answer(500, data),
    ):
        try:
            read()
        except PortmapError:
            continue


_NAMING = (dns.PTR, dns.SRV, dns.NSEC)
"""Records whose data has a name in it."""


def names(data: bytes) -> None:
    """A message of mDNS or LLMNR is read or refused.

    With names that are written as they are read, it is the same when written and read.
    """
    try:
        message = dns.parse(data)
    except dns.MalformedError:
        return
    for record in message.answers:
        dns.pairs(record.data)
    records = (*message.answers, *message.claims, *message.more)
    written = [name for name, _ in message.questions] + [record.name for record in records]
    written += [record.data.decode("latin-1") for record in records if record.type in _NAMING]
    if all(name.isascii() and ".." not in f".{name}." for name in written):
        said = dns.encode(message)
        assert len(said) > dns.MAX_BYTES or dns.parse(said) == message


def arp(data: bytes) -> None:
    """An ARP packet is one that can be said again, or none; a claim survives it."""
    packet = claim.parse(data)
    if packet is None:
        return
    assert claim.parse(packet.encode()) == packet
    claiming = claim.Claim(bytes(6), random.Random(0), 0.0)
    claiming.heard(packet, 0.1)


def neighbour(data: bytes) -> None:
    """A peer on a network keeps a name, keeps few things, and answers shortly, whatever is said."""
    run(_called(data))


async def _called(data: bytes) -> None:
    said: list[bytes] = []
    names = Names(
        "alice",
        "key",
        random.Random(0),
        lambda _way, payload, _to: said.append(payload),
        lambda _event, **_more: None,
    )
    names.begin(Endpoint("192.168.1.2", 4000))
    for number, piece in enumerate(pieces(data)):
        source = Endpoint("192.168.1.9", (5353, 5355, 1900, 40000)[number % 4])
        before = len(said)
        try:
            message = dns.parse(piece)
        except dns.MalformedError:
            continue
        for way in ("mdns", "llmnr", "signal"):
            names.heard(way, message, source)
        assert len(said) - before <= 12
    assert all(len(one) <= 1500 for one in said)
    assert dns.parse(dns.encode(dns.Message(questions=((names.name, dns.A),))))
    names.end()
