"""A WebRTC peer: a data channel by aiortc, which knows nothing of lab.

Usage: python3 peer.py SIGNALLING [PEER ...]: calls each PEER, then answers whoever calls.

All that it has from lab is the environment (where STUN and TURN are, its own
name), and all that it gives back is a line of JSON for each call.
"""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription

ME = os.environ["LAB_NODE"]
DEADLINE_S = float(os.environ.get("DEADLINE", "20"))
PINGS = 5
PAYLOAD = bytes(1 << 18)
CHUNK = 1 << 14

KINDS = {
    "host": "host",
    "srflx": "server-reflexive",
    "prflx": "peer-reflexive",
    "relay": "relayed",
}


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def configuration():
    """The lab's STUN and TURN servers, as a web page would list them."""
    first = {name: os.environ.get(f"LAB_{name}", "").split(",")[0] for name in ("STUN", "RELAY")}
    servers = []
    if first["STUN"]:
        servers.append(RTCIceServer(f"stun:{first['STUN']}"))
    if first["RELAY"]:
        user, password = os.environ["LAB_RELAY_USER"], os.environ["LAB_RELAY_PASSWORD"]
        servers.append(RTCIceServer(f"turn:{first['RELAY']}", user, password))
    return RTCConfiguration(servers)


class Signalling:
    def __init__(self, server):
        self.root = f"http://{server}"

    async def send(self, peer, **message):
        await asyncio.to_thread(self._request, "PUT", peer, json.dumps(message).encode())

    async def receive(self, box):
        while True:
            try:
                return json.loads(await asyncio.to_thread(self._request, "GET", box))
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise

    def _request(self, method, box, body=None):
        request = urllib.request.Request(f"{self.root}/{box}", body, method=method)
        gives_up = time.monotonic() + DEADLINE_S
        while True:
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.read()
            except urllib.error.URLError as error:
                # Everything starts at once, so the server may be the last.
                refused = isinstance(error.reason, ConnectionRefusedError)
                if not refused or time.monotonic() > gives_up:
                    raise
                time.sleep(0.1)


def chosen(connection):
    """The pair of candidates in use.  aiortc has it, and keeps it to itself."""
    pair = connection.sctp.transport.transport._connection._nominated[1]
    return pair.local_candidate, pair.remote_candidate


def candidate(one):
    return {"kind": KINDS[one.type], "endpoint": f"{one.host}:{one.port}"}


async def call(signalling, peer):
    """Connect to `peer`; the record of the attempt (docs/contract.md)."""
    record = {"technique": "webrtc", "remote": peer, "transport": "udp", "started_at": time.time()}
    began = time.monotonic()
    connection = RTCPeerConnection(configuration())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await connect(connection, signalling, peer, record, began)
    except TimeoutError:
        state = connection.iceConnectionState
        record |= {"outcome": "timed-out", "reason": f"ICE was {state} after {DEADLINE_S:g} s"}
    except Exception as error:
        record |= {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
    finally:
        await connection.close()
    return record


async def connect(connection, signalling, peer, record, began):
    channel = connection.createDataChannel("lab")
    heard = asyncio.Queue()
    opened = asyncio.Event()
    channel.on("open", opened.set)
    channel.on("message", heard.put_nowait)
    await connection.setLocalDescription(await connection.createOffer())
    # A box of its own for the answer: another call's must not be taken for it.
    box = f"{ME}-{uuid.uuid4().hex}"
    await signalling.send(peer, answer_to=box, sdp=connection.localDescription.sdp)
    answer = await signalling.receive(box)
    await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
    await opened.wait()

    trips = []
    for _ in range(PINGS):
        sent = time.monotonic()
        channel.send("ping")
        await heard.get()
        trips.append(time.monotonic() - sent)
        record.setdefault("time_to_path_s", time.monotonic() - began)

    sent = time.monotonic()
    for at in range(0, len(PAYLOAD), CHUNK):
        channel.send(PAYLOAD[at : at + CHUNK])
    channel.send("ping")
    await heard.get()
    took = time.monotonic() - sent

    local, remote = chosen(connection)
    relayed = "relay" in (local.type, remote.type)
    record |= {
        "outcome": "success",
        "reason": "",
        "path": "relayed" if relayed else "direct",
        "local_candidate": candidate(local),
        "remote_candidate": candidate(remote),
        "rtt_after_s": min(trips),
        "jitter_s": sum(abs(b - a) for a, b in zip(trips, trips[1:])) / (PINGS - 1),
        "goodput_bps": len(PAYLOAD) * 8 / took,
    }


async def answer_calls(signalling):
    """Answer whoever calls, for as long as this runs."""
    calls = set()
    while True:
        offer = await signalling.receive(ME)
        connection = RTCPeerConnection(configuration())
        calls.add(connection)

        @connection.on("datachannel")
        def talk(channel):
            @channel.on("message")
            def answer(message):
                if message == "ping":
                    channel.send("pong")

        @connection.on("connectionstatechange")
        async def hung_up(connection=connection):
            if connection.connectionState in ("closed", "failed"):
                calls.discard(connection)

        await connection.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        await signalling.send(offer["answer_to"], sdp=connection.localDescription.sdp)


async def main(server, *peers):
    signalling = Signalling(server)
    say("ready")
    for peer in peers:
        say("attempt", record=await call(signalling, peer))
    await answer_calls(signalling)


asyncio.run(main(*sys.argv[1:]))
