"""One router, two hosts behind it, and an outside with three addresses, to probe NATs in.

Links are made by `ip`, so that these tests need nothing of lab but rule sets
and namespaces.  Sockets belong to the namespace that they were made in, so
one thread holds all of them.

Nothing waits for silence: a packet that must not arrive is followed by one
that must (a barrier), on the same path.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.fabric import netns, rules
from lab.plan.model import Interface, Node, NodeKind
from lab.topology.behaviour import Firewall, Nat

DEADLINE_S = 30.0
"""For what is to come: nobody waits as long where it does."""
EXTERNAL = "45.0.0.2"
OUTSIDE = ("45.0.0.11", "45.0.0.12", "45.0.0.13")
HOSTS = ("192.168.1.2", "192.168.1.3")
SERVICE_PORTS = (3478, 3479)

# Each probe uses source ports that no other one used, so that nothing it sees is old.
_PORTS = itertools.count(20000)


def fresh_port() -> int:
    """A source port that no probe of this process has used, below the ephemeral range."""
    return 20000 + (next(_PORTS) - 20000) % 12000


def ip(*lines: str) -> None:
    """Run a batch of `ip` commands in the calling thread's namespace."""
    subprocess.run(["ip", "-b", "-"], input="\n".join(lines), text=True, check=True)


@dataclass
class Net:
    """Namespaces that a test made, by short names; `close` removes them."""

    prefix: str = field(default_factory=lambda: f"t-rules-{uuid.uuid4().hex[:8]}")
    names: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        return Path("/run/netns") / f"{self.prefix}.{name}"

    def add(self, name: str, *, forwarding: bool = False) -> None:
        netns.create(self.path(name))
        self.names.append(name)
        if forwarding:
            with self.inside(name):
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def inside(self, name: str) -> contextlib.AbstractContextManager[None]:
        return netns.inside(self.path(name))

    def link(self, a: str, a_interface: str, b: str, b_interface: str) -> None:
        with self.inside(a):
            ip(
                f"link add {a_interface} type veth peer name {b_interface} "
                f"netns {self.path(b).name}",
                f"link set {a_interface} up",
            )
        with self.inside(b):
            ip(f"link set {b_interface} up")

    def close(self) -> None:
        for name in self.names:
            netns.delete(self.path(name))


def router_node(
    nat: Nat | None, firewall: Firewall | None = None, *, external: str = EXTERNAL
) -> Node:
    return Node(
        name="router",
        kind=NodeKind.ROUTER,
        interfaces=(
            Interface(name="wan", addresses=(f"{external}/24",)),
            Interface(name="lan", addresses=("192.168.1.1/24",)),
        ),
        forwarding=True,
        wan="wan",
        lan="lan",
        nat=nat,
        firewall=firewall,
        subscribers=HOSTS,
    )


@dataclass
class Bench:
    """The topology; `use` gives its router another behaviour."""

    net: Net

    def use(self, nat: Nat | None, firewall: Firewall | None = None) -> None:
        with self.net.inside("router"):
            rules.load(rules.render(router_node(nat, firewall)))

    def reset(self, nat: Nat | None) -> None:
        """Make the router forget what it knows; `nat` is what runs."""
        with self.net.inside("router"):
            rules.reset(rules.render(router_node(nat)))

    def shell(self, name: str, *command: str) -> str:
        with self.net.inside(name):
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    # --- sockets ----------------------------------------------------------

    def udp(self, name: str, address: str, port: int) -> socket.socket:
        with self.net.inside(name):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(DEADLINE_S)
        return made

    def tcp(self, name: str, address: str, port: int, *, listen: bool = False) -> socket.socket:
        with self.net.inside(name):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Closing resets: a test's ports carry nothing over to the next one.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        made.bind((address, port))
        made.settimeout(DEADLINE_S)
        if listen:
            made.listen(64)
        return made


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """The topology in fresh namespaces, gone afterwards."""
    net = Net()
    try:
        for name in ("outside", "h0", "h1"):
            net.add(name)
        net.add("router", forwarding=True)
        net.link("outside", "eth0", "router", "wan")
        with net.inside("router"):
            ip("link add lan type bridge", f"addr add {EXTERNAL}/24 dev wan")
        for index, address in enumerate(HOSTS):
            net.link(f"h{index}", "eth0", "router", f"port{index}")
            with net.inside(f"h{index}"):
                ip(f"addr add {address}/24 dev eth0", "route add default via 192.168.1.1")
            with net.inside("router"):
                ip(f"link set port{index} master lan")
        with net.inside("router"):
            ip("link set lan up", "addr add 192.168.1.1/24 dev lan")
        with net.inside("outside"):
            ip(*(f"addr add {address}/24 dev eth0" for address in OUTSIDE))
        yield Bench(net)
    finally:
        net.close()


def receive(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    """The next datagram, within the deadline."""
    return sock.recvfrom(2048)


def heard_before(sock: socket.socket, barrier: bytes) -> list[bytes]:
    """What arrived before the barrier did."""
    seen = []
    while (data := receive(sock)[0]) != barrier:
        seen.append(data)
    return seen


def ready(sock: socket.socket, *, write: bool = False, within_s: float = DEADLINE_S) -> bool:
    """Whether `sock` became readable (or writable) in time."""
    sets: tuple[list[socket.socket], list[socket.socket]] = ([], [sock]) if write else ([sock], [])
    return any(select.select(*sets, [], within_s))


def connect_later(sock: socket.socket, to: tuple[str, int]) -> None:
    """Send the SYN and don't wait."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(to)


def connected(sock: socket.socket, *, within_s: float = DEADLINE_S) -> bool:
    """Whether a connection begun by `connect_later` is there in time."""
    if not ready(sock, write=True, within_s=within_s):
        return False
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def until(condition, within_s: float = DEADLINE_S) -> bool:
    """Whether `condition` came true in time; for facts that no descriptor announces."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        os.sched_yield()
    return True
