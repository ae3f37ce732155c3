"""The network of `wild`, with somebody in it who is up to no good.

    mallory 45.0.3.2 --\\
                        core, where mallory has a tap on every line
    victim  45.0.4.2 --/
    carol   45.0.5.2 -/

Mallory may send whatever with whatever source (a raw socket in the core), and
sees what passes (a packet socket there).  The victim does nothing and counts.
Carol carries packets for others, once somebody asks for that (`volunteer`).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.fabric import netns
from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.rendezvous.member import Event, Member, Refused, Registered
from tests.kernel.peer.wild import Wild, run
from tests.unit.peer.support import Program

MALLORY, VICTIM = "45.0.3.2", "45.0.4.2"
CAROL = Endpoint("45.0.5.2", 33033)
RENDEZVOUS = ("45.0.0.2", 4000)
_ETHERNET = 14
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_ROOM = 64 << 20
"""Bytes for packets that wait to be seen, while others have the processors."""

Seen = Callable[[Endpoint, Endpoint, bytes], None]


class Hostile(Wild):
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(folder)

    def services(self, node: str) -> dict[str, str]:
        more = {"VOLUNTEER": "mbps=0.1,packets=1,after_s=0"} if node == "carol" else {}
        return super().services(node) | more

    def volunteer(self) -> Program:
        """Carol, elected."""
        carol = self._start(self._folder, "carol", "peer", CAROL.address)
        deadline = time.monotonic() + 60
        while not carol.order(do="status")[-1]["status"]["volunteer"]["elected"]:
            assert time.monotonic() < deadline, "carol was not elected"
            time.sleep(0.1)
        return carol

    def socket(self, node: str, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket in `node`, with its public address if it has one."""
        with netns.inside(Path("/run/netns") / self.name(node)):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(30)
        made.bind(({"mallory": MALLORY, "victim": VICTIM}.get(node, ""), 0))
        return made

    def open_tcp(self, router: str) -> None:
        """Let TCP in at `router` too, to whatever port."""
        number = {"a": 1, "b": 2}[router]
        for command in (
            f"-t nat -A PREROUTING -i wan -p tcp -j DNAT --to-destination 192.168.{number}.2",
            "-D INPUT -i wan -m conntrack --ctstate NEW -j DROP",
        ):
            run(f"ip netns exec {self.name(router)} iptables {command}")

    @contextlib.contextmanager
    def tap(self, seen: Seen) -> Iterator[None]:
        """Call `seen` with source, destination and payload of each UDP packet in the core.

        At the end, all that came before it has been seen, and nothing is waited for: what
        others began may go on.
        """
        with netns.inside(Path("/run/netns") / self.name("core")):
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        ear.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        ear.settimeout(0.1)
        until_ns: list[int] = []

        def listen() -> None:
            while True:
                last = bool(until_ns)
                try:
                    data, more, _, (_, _, direction, *_) = ear.recvmsg(65535, 64)
                except TimeoutError:
                    if last:
                        return
                    continue
                if last and _came_ns(more) > until_ns[0]:
                    return
                if direction == socket.PACKET_HOST:
                    _report(data[_ETHERNET:], seen)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield
        finally:
            until_ns.append(time.time_ns())
            thread.join()
            ear.close()

    @contextlib.contextmanager
    def forger(self) -> Iterator[Callable[[Endpoint, Endpoint, bytes], None]]:
        """A function that sends UDP from the core, with any source."""
        with netns.inside(Path("/run/netns") / self.name("core")):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

        def send(source: Endpoint, to: Endpoint, payload: bytes) -> None:
            udp = struct.pack("!HHHH", source.port, to.port, 8 + len(payload), 0) + payload
            head = struct.pack(
                "!BBHHHBBH4s4s",
                *(0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0),
                socket.inet_aton(source.address),
                socket.inet_aton(to.address),
            )
            with contextlib.suppress(OSError):
                raw.sendto(head + udp, (to.address, 0))

        try:
            yield send
        finally:
            raw.close()

    def arrived(self, node: str) -> int:
        """IP packets that came to `node` so far."""
        listing = run(f"ip netns exec {self.name(node)} cat /proc/net/snmp")
        names, values = (line.split() for line in listing.splitlines() if line.startswith("Ip:"))
        return int(values[names.index("InReceives")])

    def _build(self) -> None:
        super()._build()
        for node, port, gate, own in (
            ("mallory", "m", "45.0.3.1/24", MALLORY),
            ("victim", "v", "45.0.4.1/24", VICTIM),
            ("carol", "c", "45.0.5.1/24", CAROL.address),
        ):
            run(f"ip netns add {self.name(node)}")
            self.ip(node, "link set dev lo up")
            self._wire(node, "eth0", (f"{own}/24",), up="core", port=port, gate=gate)


class Impostor:
    """Mallory at the rendezvous service, under any name, with a key of her own."""

    def __init__(self, hostile: Hostile, name: str) -> None:
        self.identity = Identity.create()
        self.member = Member(name, self.identity)
        self.events: list[Event] = []
        self._sock = hostile.socket("mallory", socket.SOCK_STREAM)
        self._sock.connect(RENDEZVOUS)

    def settle(self, until: Callable[[Event], bool]) -> Event:
        """Say what there is to say, and listen until such an event comes."""
        while True:
            self._sock.sendall(self.member.take())
            for event in self.events:
                if until(event):
                    return event
            data = self._sock.recv(65536)
            assert data, self.events
            self.events += self.member.receive(data)

    def register(self) -> Event:
        """How the service answers."""
        return self.settle(lambda event: isinstance(event, Registered | Refused))

    def flush(self) -> None:
        """Send what there is to say."""
        self._sock.sendall(self.member.take())

    def close(self) -> None:
        self._sock.close()


def _came_ns(more: list[tuple[int, int, bytes]]) -> int:
    """When a packet came, by what the kernel says beside it."""
    ((_, _, stamp),) = more
    seconds, nanoseconds = struct.unpack("ll", stamp)
    return seconds * 10**9 + nanoseconds


def _report(packet: bytes, seen: Seen) -> None:
    size = (packet[0] & 0x0F) * 4
    if packet[9] != socket.IPPROTO_UDP or len(packet) < size + 8:
        return
    source, to, length, _ = struct.unpack_from("!HHHH", packet, size)
    addresses = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
    ends = [Endpoint(a, p) for a, p in zip(addresses, (source, to), strict=True)]
    seen(ends[0], ends[1], packet[size + 8 : size + length])
