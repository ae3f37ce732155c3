"""Daemons in real namespaces: started, seen to be ready, stopped, never left alone."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from lab.agent.programs import Programs
from lab.errors import LabError, MissingError
from lab.fabric import netns
from lab.fabric.journal import Journal
from lab.observe.state import Stage
from lab.plan.model import Daemon, Node, NodeKind, Plan

pytestmark = pytest.mark.kernel

WEB = Daemon(
    name="web",
    command=("busybox", "httpd", "-f", "-p", "8080", "-h", "{dir}/"),
    files=(("hello.txt", "hello from {dir}"),),
    ready=("tcp/8080",),
    package="busybox-static",
)
BROKEN = Daemon(
    name="web",
    command=("sh", "-c", "echo no such option >&2; exit 3"),
    ready=("udp/53",),
)


def programs_of(scratch, ended):
    scratch.paths.root.mkdir(parents=True, exist_ok=True)
    journal = Journal.open(scratch.paths.journal)
    return Programs(scratch.paths, journal, lambda *_: None, ended.append)


def plan_of(scratch, *daemons: Daemon) -> Plan:
    node = Node(name="home", kind=NodeKind.ROUTER, daemons=daemons)
    return Plan(lab=scratch.paths.lab, nodes=(node,), links=())


def get(scratch) -> bytes:
    with netns.inside(scratch.paths.netns("home")):
        sock = socket.create_connection(("127.0.0.1", 8080), timeout=30)
    with sock:
        sock.sendall(b"GET /hello.txt HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(4096), b""))


def test_a_daemon_answers_once_it_is_started_and_not_once_it_is_stopped(scratch):
    async def run():
        programs = programs_of(scratch, [])
        await programs.prepare(plan_of(scratch, WEB))
        scratch.namespace("home")
        for _ in range(2):
            await programs.start_daemon("home", WEB)
            assert programs.states["home/web"].state is Stage.READY
            folder = scratch.paths.node("home") / "web"
            assert get(scratch).endswith(f"hello from {folder}".encode())
            await programs.stop_daemon("home", WEB)
            assert "home/web" not in programs.states
            with pytest.raises(ConnectionRefusedError):
                get(scratch)

    asyncio.run(run())


def test_one_that_ends_says_why_and_one_that_is_not_installed_never_starts(scratch):
    async def run():
        ended = []
        programs = programs_of(scratch, ended)
        await programs.prepare(plan_of(scratch, BROKEN))
        scratch.namespace("home")
        with pytest.raises(LabError, match=r"(?s)home/web: it ended .*no such option") as raised:
            await programs.start_daemon("home", BROKEN)
        assert "lab logs home/web" in raised.value.remedy
        assert programs.states["home/web"].state is Stage.FAILED
        absent = msgspec.structs.replace(WEB, command=("no-such-server",), package="no-such")
        with pytest.raises(MissingError, match="no-such-server"):
            await programs.prepare(plan_of(scratch, absent))

    asyncio.run(run())
