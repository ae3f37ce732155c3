"""The web relay and its tunnels: what is on the wire, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.web import websocket
from lab.peer.web.connection import RefusedError, proxy_endpoint
from lab.peer.web.message import Message, Parser, request
from lab.peer.web.relay import WebRelay
from lab.peer.web.tunnel import Access, basic, by_polling, by_websocket, parcel
from lab.peer.web.websocket import Decoder, Frame, FrameError, Opcode
from tests.unit.peer.support import network

USER, PASSWORD = "lab", "secret"
WAIT_S = 30


class Tap:
    """Passes a relay's connections on, and keeps what went by in both directions."""

    def __init__(self):
        self.connections: list[tuple[bytearray, bytearray]] = []

    async def start(self, address: str, to: Endpoint) -> Endpoint:
        self.to = to
        self.server = await asyncio.start_server(self._serve, address, 0)
        return Endpoint(*self.server.sockets[0].getsockname())

    async def _serve(self, reader, writer):
        kept = bytearray(), bytearray()
        self.connections.append(kept)
        far_reader, far_writer = await asyncio.open_connection(*self.to)
        await asyncio.gather(
            self._copy(reader, far_writer, kept[0]), self._copy(far_reader, writer, kept[1])
        )

    async def _copy(self, reader, writer, keep):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                keep += data
                writer.write(data)
        writer.close()


def play(story):
    """Run `story(access, tap)` beside a relay whose connections are tapped."""

    async def stage():
        address = f"{network()}.2"
        relay = WebRelay(USER, PASSWORD)
        await relay.start((address,), (8080,))
        tap = Tap()
        server = await tap.start(address, Endpoint(address, 8080))

        def access(session="a" * 32, password=PASSWORD):
            return Access(server, session, USER, password)

        try:
            async with asyncio.timeout(WAIT_S):
                await story(access, tap)
        finally:
            tap.server.close()
            relay.close()

    asyncio.run(stage())


def check_with_h11(sent: bytes, answered: bytes) -> int:
    """Whether both directions of a connection are HTTP/1.1, request by request; how many."""
    server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
    server.receive_data(bytes(sent))
    client.receive_data(bytes(answered))
    count = 0
    while True:
        asked = server.next_event()
        if not isinstance(asked, h11.Request):
            return count
        client.send(h11.Request(method=asked.method, target=asked.target, headers=asked.headers))
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            if event in (h11.NEED_DATA, h11.PAUSED):
                return count
            client.send(h11.Data(data=event.data))
        client.send(h11.EndOfMessage())
        answer = client.next_event()
        if isinstance(answer, h11.InformationalResponse):
            assert answer.status_code == 101
            return count + 1
        if answer is h11.NEED_DATA:  # a poll that was still waiting
            return count
        assert isinstance(answer, h11.Response)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
        count += 1
        code = answer.status_code
        server.send(h11.Response(status_code=code, headers=answer.headers))
        body = dict(answer.headers).get(b"content-length", b"0")
        if int(body):
            server.send(h11.Data(data=bytes(int(body))))
        server.send(h11.EndOfMessage())
        if server.our_state is h11.MUST_CLOSE:
            return count
        server.start_next_cycle()
        client.start_next_cycle()


@pytest.mark.parametrize(
    "ways", [(by_websocket, by_websocket), (by_polling, by_polling), (by_websocket, by_polling)]
)
def test_packets_pass_both_ways_and_all_of_it_is_http(ways):
    async def story(access, tap):
        one, two = [await way(access()) for way in ways]
        for number in range(20):
            packet = bytes([number]) * (100 + number)
            one.send(packet)
            assert await two.packets.get() == packet
            two.send(packet)
            assert await one.packets.get() == packet
        await one.close()
        await two.close()
        # One connection for a WebSocket; one for GET and one for POST.
        assert len(tap.connections) == sum(1 if way is by_websocket else 2 for way in ways)
        requests = sum(check_with_h11(*kept) for kept in tap.connections)
        assert requests >= (len(ways) if by_websocket in ways else 40)

    play(story)


def test_nobody_joins_without_credentials():
    async def story(access, tap):
        for way in (by_websocket, by_polling):
            with pytest.raises(RefusedError) as refused:
                await way(access(password="guessed"))  # noqa: S106 - a wrong one
            assert refused.value.status == 401

    play(story)


def test_a_session_has_two_ends_and_no_others_packets():
    async def story(access, tap):
        ends = [await by_websocket(access()), await by_polling(access())]
        for way in (by_websocket, by_polling):
            with pytest.raises(RefusedError) as refused:
                await way(access())
            assert refused.value.status == 403
        other = [await by_websocket(access("b" * 32)) for _ in range(2)]
        ends[0].send(b"for one")
        other[0].send(b"for another")
        assert await ends[1].packets.get() == b"for one"
        assert await other[1].packets.get() == b"for another"
        assert ends[0].packets.empty()
        for end in (*ends, *other):
            await end.close()

    play(story)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (request("GET", "/", "h"), 401),
        (request("GET", "/", "h", (("Authorization", basic(USER, PASSWORD)),)), 404),
        (
            request("GET", "/join/" + "a" * 32, "h", (("Authorization", basic(USER, PASSWORD)),)),
            426,
        ),
        (
            request(
                "POST",
                f"/join/{'a' * 32}/{'b' * 16}",
                "h",
                (("Authorization", basic(USER, PASSWORD)),),
                b"\xff\xff much too short",
            ),
            400,
        ),
    ],
)
def test_what_is_no_request_of_ours_is_refused(data, status):
    async def story(access, tap):
        reader, writer = await asyncio.open_connection(*access().server)
        writer.write(data)
        parser = Parser(requests=False)
        while (answer := parser.next()) is None:
            parser.feed(await reader.read(4096))
        assert answer.status == status
        assert await reader.read() == b""
        writer.close()
        # Others are served.
        await (await by_polling(access())).close()

    play(story)


def test_the_handshake_of_the_rfc():
    # RFC 6455, section 1.3
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    key = base64.b64decode("dGhlIHNhbXBsZSBub25jZQ==")
    headers = websocket.upgrade_headers(key)
    accepted = websocket.accept_headers(Message(headers, method="GET", target="/"))
    assert websocket.accepted(Message(accepted, status=101), key)
    assert not websocket.accepted(Message(accepted, status=101), bytes(16))
    assert websocket.accept_headers(Message(headers[:2], method="GET", target="/")) is None


def test_the_frames_of_the_rfc():
    # RFC 6455, section 5.7
    assert websocket.encode(Opcode.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    masked = bytes.fromhex("818537fa213d7f9f4d5158")
    assert websocket.encode(Opcode.TEXT, b"Hello", bytes.fromhex("37fa213d")) == masked
    assert Decoder(masked=True).feed(masked) == [Frame(Opcode.TEXT, b"Hello")]
    parts = bytes.fromhex("010348656c") + bytes.fromhex("8900") + bytes.fromhex("80026c6f")
    joined = [Frame(Opcode.PING, b""), Frame(Opcode.TEXT, b"Hello")]
    assert Decoder(masked=False).feed(parts) == joined


@pytest.mark.parametrize(
    ("data", "masked"),
    [
        ("8100", True),  # a client that does not mask
        ("818000000000", False),  # a server that does
        ("c100", False),  # a bit that nobody agreed on
        ("8300", False),  # an opcode that there is not
        ("897e0080", False),  # a ping that is long
        ("0900", False),  # a ping in parts
        ("827f0000000100000000", False),  # 4 GB
        ("8000", False),  # the rest of nothing
        ("010161810161", False),  # a message within another
    ],
)
def test_frames_that_are_none(data, masked):
    with pytest.raises(FrameError):
        Decoder(masked=masked).feed(bytes.fromhex(data))


@given(st.lists(st.binary(max_size=70000 // 8), max_size=4), st.booleans(), st.integers(1, 999))
def test_frames_come_out_as_they_went_in(payloads, masked, size):
    data = b"".join(
        websocket.encode(Opcode.BINARY, p, secrets.token_bytes(4) if masked else b"")
        for p in payloads
    )
    decoder = Decoder(masked=masked)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    found = [frame.payload for piece in pieces for frame in decoder.feed(piece)]
    assert found == payloads


PIECES = st.sampled_from([b"\x81\x02ab", b"\x89\x00", b"\x01\x01a", b"\x80\x01b", b"\x82\x7e"])


@given(st.lists(PIECES | st.binary(max_size=9)).map(b"".join), st.booleans())
def test_whatever_comes_is_the_same_frames_however_it_is_cut(data, masked):
    def read(size: int) -> tuple[list[Frame], bool]:
        decoder, frames = Decoder(masked=masked), list[Frame]()
        try:
            for at in range(0, len(data), size):
                frames += decoder.feed(data[at : at + size])
        except FrameError:
            return frames, False
        return frames, True

    one_by_one, sound = read(1)
    assert sum(len(frame.payload) for frame in one_by_one) <= len(data)
    # What comes before a fault is told if it came before it, too.
    assert not sound or read(len(data) or 1) == (one_by_one, True)


def test_a_parcel_and_a_proxy():
    assert parcel(b"abc") == b"\0\3abc"
    assert proxy_endpoint("http://192.168.1.1:3128") == ("192.168.1.1", 3128)
    assert proxy_endpoint("") is None
    with pytest.raises(ValueError, match="not an HTTP proxy"):
        proxy_endpoint("socks5://192.168.1.1:1080")
