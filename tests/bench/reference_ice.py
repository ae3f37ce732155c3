"""N22: ICE's pace; and which pair it takes beside a relay."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from aioice import Candidate, Connection

from lab.fabric import netns
from lab.peer.settings import Settings, from_environment
from lab.peer.traversal.icelink import IceLink
from tests.bench import reference_paths as paths
from tests.bench.reference_result import Result, share

CONNECT_S = 10.0


def pairs(part: float, rng: random.Random) -> Iterator[Result]:
    """N22."""
    yield from pacing(part, rng)
    yield from choice(part)


def choice(part: float) -> Iterator[Result]:
    """Two homes that can be punched, beside a relay that is nearer than anything."""
    count = paths.repeats(20, part)
    with paths.near() as lab:
        lab.homes(paths.STRICT, paths.STRICT)
        ours = sum(asyncio.run(_direct(lab, _linked)) for _ in range(count))
        bare = sum(asyncio.run(_direct(lab, _bare)) for _ in range(count))
    yield Result(
        f"ICE, two port-restricted homes beside a TURN server, no delays, {count} times",
        "direct, always",
        share(ours, count),
        ours == count,
        f"aioice by itself, which takes the first pair that answers: {bare} of {count}",
    )


def _linked(settings: Settings, *, controlling: bool) -> Connection:
    return IceLink(settings, lambda _: None, controlling=controlling)


def _bare(settings: Settings, *, controlling: bool) -> Connection:
    (stun, *_), (relay, *_) = settings.stun, settings.relays
    return Connection(
        ice_controlling=controlling,
        use_ipv6=False,
        stun_server=stun,
        turn_server=relay,
        turn_username=settings.relay_user,
        turn_password=settings.relay_password,
    )


async def _direct(lab: paths.Lab, make: Callable[..., Connection]) -> bool:
    """Whether alice and bob come to use a pair without the relay."""
    made = []
    for name in ("alice", "bob"):
        node = next(node for node in lab.plan.nodes if node.name == name)
        assert node.program is not None
        link = make(from_environment(dict(node.program.env)), controlling=not made)
        with netns.inside(lab.paths.netns(name)):
            await (link.gather() if isinstance(link, IceLink) else link.gather_candidates())
        made.append(link)
    try:
        for link, other in (made, made[::-1]):
            link.remote_username, link.remote_password = other.local_username, other.local_password
            for candidate in other.local_candidates:
                await link.add_remote_candidate(candidate)
            await link.add_remote_candidate(None)
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(*(link.connect() for link in made))
        # What was nominated is private to aioice.
        pair = made[0]._nominated[1]
        return "relay" not in (pair.local_candidate.type, pair.remote_candidate.type)
    finally:
        for link in made:
            await link.close()


def pacing(part: float, rng: random.Random) -> Iterator[Result]:
    """When the checks of so many pairs leave (RFC 8445, section 14.2)."""
    count = paths.repeats(10, part)
    with paths.near() as lab:
        ours = asyncio.run(_checks(lab, count, _link))
        bare = asyncio.run(_checks(lab, count, partial(Connection, ice_controlling=True)))
    took, least = (ours[-1] - ours[0]) * 1000, (count - 1) * 50
    yield Result(
        f"ICE, {count} candidate pairs that lead nowhere",
        f"the last check ≥ {least} ms less 5 % after the first",
        f"{took:.0f} ms",
        took >= least * 0.95,
        f"aioice by itself, which has 20 ms: {(bare[-1] - bare[0]) * 1000:.0f} ms",
    )


def _link() -> Connection:
    """The connection of the technique `ice`, without servers."""
    settings = Settings(
        lab="t", node="alice", seed=1, roles=("peer",), folder=Path(), addresses=("192.168.1.2",)
    )
    return IceLink(settings, lambda _: None, controlling=True)


async def _checks(lab: paths.Lab, count: int, make: Callable[[], Connection]) -> list[float]:
    """When each of `count` endpoints that don't answer was first checked, in order."""
    loop = asyncio.get_running_loop()
    at: dict[int, float] = {}
    with netns.inside(lab.paths.netns("alice")), contextlib.ExitStack() as stack:
        connection = make()
        await connection.gather_candidates()
        host = connection.local_candidates[0].host

        def heard(sock: socket.socket, index: int) -> None:
            sock.recv(2048)
            at.setdefault(index, loop.time())

        for index in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((host, 0))
            loop.add_reader(sock, heard, sock, index)
            stack.callback(loop.remove_reader, sock)
            port = sock.getsockname()[1]
            candidate = Candidate(str(index), 1, "udp", 1000 + index, host, port, "host")
            await connection.add_remote_candidate(candidate)
        await connection.add_remote_candidate(None)
        connection.remote_username, connection.remote_password = "abcd", "a" * 22
        work = loop.create_task(connection.connect())
        while len(at) < count:
            await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await connection.close()
    return sorted(at.values())
