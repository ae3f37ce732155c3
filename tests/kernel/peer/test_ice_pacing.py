"""ICE's checks on the wire: one each 50 ms, as RFC 8445 has it (Ta, section 14.2)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from aioice import Candidate

from lab.fabric import netns
from lab.peer.settings import Settings
from lab.peer.traversal.icelink import PACE_S, IceLink

pytestmark = pytest.mark.kernel

PAIRS = 8
_SO_TIMESTAMPNS = 35


def _ear() -> socket.socket:
    """A port that takes packets, with the time at which each was sent, and does not answer."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.bind(("10.9.0.1", 0))
    made.setblocking(False)
    return made


def _sent_at(ear: socket.socket) -> float:
    """When its first packet was handed to the kernel, which takes it to the other end at once."""
    _, ((_, _, stamp), *_), _, _ = ear.recvmsg(2048, 64)
    seconds, nanoseconds = struct.unpack("qq", stamp)
    return float(seconds + nanoseconds / 1e9)


async def _came(ear: socket.socket) -> None:
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(ear, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(ear)


async def _check(tmp_path: Path) -> tuple[list[float], IceLink, list[int]]:
    loop = asyncio.get_running_loop()
    settings = Settings(
        lab="t", node="alice", seed=1, roles=("peer",), folder=tmp_path, addresses=("10.9.0.1",)
    )
    sizes: list[int] = []
    link = IceLink(settings, sizes.append, controlling=True)
    await link.gather()
    assert {candidate.host for candidate in link.local_candidates} == {"10.9.0.1"}
    with contextlib.ExitStack() as stack:
        ears = [stack.enter_context(_ear()) for _ in range(PAIRS)]
        for ear in ears:
            line = f"1 1 udp 2130706431 10.9.0.1 {ear.getsockname()[1]} typ host"
            await link.add_remote_candidate(Candidate.from_sdp(line))
        link.remote_username, link.remote_password = "user", "p" * 24
        await link.add_remote_candidate(None)
        connecting = loop.create_task(link.connect())
        async with asyncio.timeout(30):
            await asyncio.gather(*map(_came, ears))
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await link.close()
        return sorted(map(_sent_at, ears)), link, sizes


def test_checks_are_paced(tmp_path):
    with netns.scratch():
        netns.loopback_up()
        subprocess.run(["ip", "address", "add", "10.9.0.1/32", "dev", "lo"], check=True)
        sent, link, sizes = asyncio.run(_check(tmp_path))
    # Late they may be, on a machine that has other things to do, but never early.
    assert sent[-1] - sent[0] >= (PAIRS - 1) * PACE_S * 0.95
    assert link.checks >= PAIRS
    assert len(sizes) >= PAIRS
    assert all(size > 20 for size in sizes)
