"""ICE's checks on the wire: one each 50 ms, as RFC 8445 has it (Ta, section 14.2)."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from aioice import Candidate

from lab.fabric import netns
from lab.peer.endpoint import Endpoint
from lab.peer.settings import Settings
from lab.peer.traversal.icelink import PACE_S, IceLink

pytestmark = pytest.mark.kernel

PAIRS = 8


class _Ear(asyncio.DatagramProtocol):
    """Notes when the first packet comes, and does not answer."""

    def __init__(self, heard: list[float]) -> None:
        self._heard = heard
        self._first = True

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._first:
            self._first = False
            self._heard.append(asyncio.get_running_loop().time())


async def _check(tmp_path: Path) -> tuple[list[float], IceLink, list[int]]:
    loop = asyncio.get_running_loop()
    settings = Settings(
        lab="t", node="alice", seed=1, roles=("peer",), folder=tmp_path, addresses=("10.9.0.1",)
    )
    sizes: list[int] = []
    link = IceLink(settings, sizes.append, controlling=True)
    await link.gather()
    assert {candidate.host for candidate in link.local_candidates} == {"10.9.0.1"}
    heard: list[float] = []
    ears = []
    for _ in range(PAIRS):
        ear, _ = await loop.create_datagram_endpoint(
            lambda: _Ear(heard), local_addr=Endpoint("10.9.0.1", 0)
        )
        ears.append(ear)
        port = ear.get_extra_info("sockname")[1]
        line = f"1 1 udp 2130706431 10.9.0.1 {port} typ host"
        await link.add_remote_candidate(Candidate.from_sdp(line))
    link.remote_username, link.remote_password = "user", "p" * 24
    await link.add_remote_candidate(None)
    connecting = loop.create_task(link.connect())
    async with asyncio.timeout(20):
        while len(heard) < PAIRS:
            await asyncio.wait((connecting,), timeout=PACE_S)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await link.close()
    for ear in ears:
        ear.close()
    return heard, link, sizes


def test_checks_are_paced(tmp_path):
    with netns.scratch():
        netns.loopback_up()
        subprocess.run(["ip", "address", "add", "10.9.0.1/32", "dev", "lo"], check=True)
        heard, link, sizes = asyncio.run(_check(tmp_path))
    # Late they may be, on a machine that has other things to do, but never early.
    assert heard[-1] - heard[0] >= (PAIRS - 1) * PACE_S * 0.95
    assert link.checks >= PAIRS
    assert len(sizes) >= PAIRS
    assert all(size > 20 for size in sizes)
