"""NAT-PMP, PCP, SSDP and IGD as bytes; what routers say that should not be believed."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.portmap import igd, natpmp, pcp, ssdp
from lab.peer.portmap.ask import _Search
from lab.peer.portmap.exchange import Host
from lab.peer.portmap.gateway import default_gateway
from lab.peer.portmap.keep import keep
from lab.peer.portmap.lease import (
    TCP,
    UDP,
    Lease,
    MalformedAnswerError,
    PortmapError,
    SilentError,
)
from lab.peer.record import Tally

NONCE = b"0123456789ab"
LOCATION = "http://192.168.1.1:5000/rootDesc.xml"
DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/ctl/L3F</controlURL></service></serviceList>
<deviceList><device><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType>
<controlURL>{control}</controlURL></service></serviceList></device></deviceList>
</device></root>"""
FAULT = b"""<?xml version="1.0"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>
<faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>718</errorCode>
<errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail>
</s:Fault></s:Body></s:Envelope>"""
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t0102A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def pcp_answer(result: int = 0, nonce: bytes = NONCE, version: int = 2) -> bytes:
    external = bytes(10) + b"\xff\xff" + bytes((45, 0, 0, 2))
    head = struct.pack("!BBBBI12xI", version, 0x81, 0, result, 600, 7)[:24]
    return head + struct.pack("!12sBxxxHH16s", nonce, UDP, 4000, 5000, external)


def test_natpmp_speaks_as_the_rfc_has_it():
    assert natpmp.address_request() == b"\0\0"
    asked = natpmp.mapping_request(UDP, 4000, 5000, 600)
    assert asked == bytes.fromhex("0001 0000 0fa0 1388 00000258")
    assert natpmp.mapping_request(TCP, 4000, 5000, 0) == bytes.fromhex(
        "0002 0000 0fa0 0000 00000000"
    )
    assert natpmp.parse_address(bytes.fromhex("0080 0000 00000001 2d000002")) == "45.0.0.2"
    answer = bytes.fromhex("0081 0000 00000001 0fa0 1388 00000258")
    assert natpmp.parse_mapping(answer, UDP) == natpmp.Mapped(4000, 5000, 600)
    with pytest.raises(MalformedAnswerError):
        natpmp.parse_mapping(answer, TCP)
    with pytest.raises(PortmapError, match="no external address"):
        natpmp.parse_address(bytes.fromhex("0080 0003 00000001"))


def test_pcp_speaks_as_the_rfc_has_it():
    client, anywhere = Endpoint("192.168.1.2", 4000), Endpoint("0.0.0.0", 4000)
    asked = pcp.map_request(client, NONCE, UDP, anywhere, 600)
    assert len(asked) == 60
    assert asked[:8] == bytes.fromhex("02010000 00000258")
    assert asked[8:24] == bytes(10) + b"\xff\xff" + bytes((192, 168, 1, 2))
    assert pcp.parse_map(pcp_answer(), NONCE, UDP) == pcp.Mapped(
        Endpoint("45.0.0.2", 5000), 4000, 600
    )


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (pcp_answer(nonce=b"another one!"), MalformedAnswerError),
        (pcp_answer(result=7), PortmapError),
        (pcp_answer(version=0), PortmapError),
        (pcp_answer()[:59], MalformedAnswerError),
        (b"", MalformedAnswerError),
    ],
)
def test_pcp_believes_only_the_answer_to_its_question(data, error):
    with pytest.raises(error):
        pcp.parse_map(data, NONCE, UDP)


def test_a_search_and_its_answer():
    search = ssdp.search(ssdp.GATEWAY)
    assert ssdp.parse_search(search) == ssdp.GATEWAY
    assert search.startswith(b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n")
    answer = ssdp.found(ssdp.GATEWAY, LOCATION, "uuid:1")
    assert ssdp.parse_found(answer) == ssdp.Found(ssdp.GATEWAY, LOCATION, "uuid:1")
    assert ssdp.parse_search(answer) == ""
    assert ssdp.parse_found(search) is None


def test_a_description_leads_to_the_connection_of_the_router_itself():
    data = DESCRIPTION.format(control="/ctl/IPConn").encode()
    service = igd.parse_description(data, LOCATION)
    assert service.url == "http://192.168.1.1:5000/ctl/IPConn"
    assert service.kind.endswith("WANIPConnection:2")
    elsewhere = DESCRIPTION.format(control="http://10.0.0.1/x").encode()
    with pytest.raises(PortmapError, match="another host"):
        igd.parse_description(elsewhere, LOCATION)


def test_xml_with_declarations_is_not_read():
    bomb = b'<!DOCTYPE a [<!ENTITY b "cccccccc">]><a>&b;</a>'
    with pytest.raises(MalformedAnswerError, match="declares"):
        igd.parse_description(bomb, LOCATION)


def test_a_call_and_what_it_returns():
    service = igd.Service("urn:schemas-upnp-org:service:WANIPConnection:2", LOCATION)
    body = igd.call(service, "AddPortMapping", igd.add_port_mapping(UDP, 1, "<&>", 2, 3))
    assert b"<NewInternalClient>&lt;&amp;&gt;</NewInternalClient>" in body
    # A call has the form of an answer.
    assert igd.parse_answer(200, body)["NewLeaseDuration"] == "3"
    with pytest.raises(igd.CallError, match="ConflictInMappingEntry") as caught:
        igd.parse_answer(500, FAULT)
    assert caught.value.code == 718


def test_the_gateway_is_that_of_the_best_default_route():
    assert default_gateway(ROUTES) == "192.168.2.1"
    assert default_gateway(ROUTES.splitlines()[0]) == ""


@given(st.binary(max_size=1200))
def test_whatever_comes_is_an_answer_or_none(data):
    for parse in (
        natpmp.parse_address,
        lambda d: natpmp.parse_mapping(d, UDP),
        lambda d: pcp.parse_map(d, NONCE, UDP),
        lambda d: igd.parse_description(d, LOCATION),
        lambda d: igd.parse_answer(200, d),
        lambda d: igd.parse_answer(500, d),
    ):
        with contextlib.suppress(PortmapError):
            parse(data)
    ssdp.parse_search(data)
    ssdp.parse_found(data)


@given(st.data())
def test_answers_with_damage_are_answers_or_none(data):
    whole = data.draw(st.sampled_from([pcp_answer(), ssdp.found("a", LOCATION, "b"), FAULT]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    for parse in (
        lambda d: pcp.parse_map(d, NONCE, UDP),
        lambda d: igd.parse_answer(500, d),
        lambda d: igd.parse_answer(200, d),
        ssdp.parse_found,
    ):
        with contextlib.suppress(PortmapError):
            parse(damaged)


class Router:
    """Grants ports for a second, and notes what it is asked."""

    def __init__(self):
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.refuse_next = False

    async def map(self, protocol, port, lifetime_s):
        await self.asked.put("map")
        if self.refuse_next:
            self.refuse_next = False
            raise SilentError("away")
        return Lease(Endpoint("45.0.0.2", 5000), port, protocol, 1)

    async def release(self, lease):
        await self.asked.put(f"release {lease.external.port}")


def test_a_lease_is_renewed_and_given_back():
    async def story():
        router = Router()
        kept = await keep(router, UDP, 4000, 600)
        assert await router.asked.get() == "map"
        router.refuse_next = True
        for _ in range(3):  # one of them fails and is tried again
            assert await asyncio.wait_for(router.asked.get(), 30) == "map"
        await kept.release()
        assert kept.renewals >= 1
        said = [router.asked.get_nowait() for _ in range(router.asked.qsize())]
        assert said[-1] == "release 5000"

    asyncio.run(story())


def test_whoever_else_answers_a_search_first_is_not_the_router():
    async def story():
        search = _Search(Host("192.168.1.2", "192.168.1.1", Tally()))
        for address in ("192.168.1.66", "192.168.1.1"):
            # From mallory herself, and as if from the router but leading to her.
            lie = ssdp.found(ssdp.GATEWAY, "http://192.168.1.66:5000/x", "uuid:1")
            search.datagram_received(lie, (address, 1900))
            assert not search.found.done()
            assert search.other == "http://192.168.1.66:5000/x"
        honest = ssdp.found(ssdp.GATEWAY, LOCATION, "uuid:1")
        search.datagram_received(honest, ("192.168.1.1", 1900))
        assert await search.found == LOCATION

    asyncio.run(story())
