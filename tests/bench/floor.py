"""The least that a network can cost: the same kernel objects through the rawest interface.

Given a plan, everything that can be prepared is prepared before the clock
starts: rtnetlink messages as bytes with the interface indexes in them, rule
sets as text, the split among threads.  What is timed is system calls:
`unshare` and `mount`, one `send` for a batch of messages, `iptables-restore`
and libnftables for the rules.  No journal, no checks, no settings but
forwarding, no answer read beyond its error number.  It shares no code with
`lab.fabric`, so that neither flatters the other.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.plan.model import Link, Node, Plan

CLONE_NEWNET = 0x40000000
FOLDER = "/run/netns"
_BATCH = 64
_DUE = 0x5
_NEW = 0x605


@dataclass(frozen=True)
class Rules:
    """A node's rule set as its loaders want it."""

    iptables: bytes
    nft: bytes


@dataclass
class Floor:
    """One plan, ready to be built; `phases` holds seconds by phase afterwards."""

    plan: Plan
    rules: dict[str, Rules]
    threads: int = 2
    phases: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.nft = ctypes.CDLL("libnftables.so.1")
        self.nft.nft_ctx_new.restype = ctypes.c_void_p
        for function in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
            getattr(self.nft, function).argtypes = [ctypes.c_void_p]
        self.nft.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.files: dict[str, int] = {}
        self.index = {
            (node.name, port.name): number
            for node in self.plan.nodes
            for number, port in enumerate(node.interfaces, start=2)
        }
        self.pairs = self._pairs()
        self.addresses = {node.name: self._configuration(node) for node in self.plan.nodes}

    def build(self) -> float:
        """Make it all; seconds."""
        start = time.perf_counter()
        names = [node.name for node in self.plan.nodes]
        forwarding = [node.name for node in self.plan.nodes if node.forwarding]
        self._phase("namespaces", self._namespace, names)
        self._phase("settings", self._forward, forwarding)
        self._phase("links", self._link, list(self.pairs.items()))
        self._phase("addresses", self._configure, names)
        self._phase("rules", self._load, list(self.rules))
        return time.perf_counter() - start

    def remove(self) -> float:
        """Remove the names; seconds."""
        for file in self.files.values():
            os.close(file)
        start = time.perf_counter()
        self._phase("removal", self._unname, list(self.files))
        return time.perf_counter() - start

    def _phase(self, name: str, step: Callable[..., None], items: Sequence[object]) -> None:
        start = time.perf_counter()

        def work(part: Sequence[object]) -> None:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            for item in part:
                step(item)
            self.libc.setns(home, CLONE_NEWNET)
            os.close(home)

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, [items[i :: self.threads] for i in range(self.threads)]))
        self.phases[name] = time.perf_counter() - start

    # --- what is timed --------------------------------------------------------

    def _namespace(self, name: str) -> None:
        path = f"{FOLDER}/{self.plan.lab}.{name}".encode()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        assert self.libc.unshare(CLONE_NEWNET) == 0
        assert self.libc.mount(b"/proc/thread-self/ns/net", path, b"none", 0x1000, None) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            fcntl.ioctl(handle, 0x8914, struct.pack("16sH14x", b"lo", 1))
        self.files[name] = os.open(path, os.O_RDONLY)

    def _forward(self, name: str) -> None:
        self.libc.setns(self.files[name], CLONE_NEWNET)
        file = os.open("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY)
        os.write(file, b"1")
        os.close(file)

    def _link(self, item: tuple[str, list[tuple[str, bytes, bytes, bytes]]]) -> None:
        home, pairs = item
        self.libc.setns(self.files[home], CLONE_NEWNET)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as handle:
            for start in range(0, len(pairs), _BATCH):
                part = pairs[start : start + _BATCH]
                data = b"".join(
                    before + struct.pack("i", self.files[there]) + after + up
                    for there, before, after, up in part
                )
                _exchange(handle, data, 2 * len(part))

    def _configure(self, name: str) -> None:
        messages = self.addresses[name]
        self.libc.setns(self.files[name], CLONE_NEWNET)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as handle:
            for start in range(0, len(messages), _BATCH):
                part = messages[start : start + _BATCH]
                _exchange(handle, b"".join(part), len(part))

    def _load(self, name: str) -> None:
        self.libc.setns(self.files[name], CLONE_NEWNET)
        rules = self.rules[name]
        if rules.iptables:
            subprocess.run(["/usr/sbin/iptables-nft-restore"], input=rules.iptables, check=True)
        if rules.nft:
            context = self.nft.nft_ctx_new(0)
            self.nft.nft_ctx_buffer_error(context)
            self.nft.nft_ctx_buffer_output(context)
            assert self.nft.nft_run_cmd_from_buffer(context, rules.nft) == 0
            self.nft.nft_ctx_free(context)

    def _unname(self, name: str) -> None:
        path = f"{FOLDER}/{self.plan.lab}.{name}".encode()
        self.libc.umount2(path, 2)
        os.unlink(path)  # noqa: PTH108 - the raw call is the point

    # --- what is prepared -----------------------------------------------------

    def _pairs(self) -> dict[str, list[tuple[str, bytes, bytes, bytes]]]:
        count: dict[str, int] = {}
        for link in self.plan.links:
            for end in (link.a, link.b):
                count[end.node] = count.get(end.node, 0) + 1
        pairs: dict[str, list[tuple[str, bytes, bytes, bytes]]] = {}
        for link in self.plan.links:
            here, there = link.a, link.b
            if count[there.node] > count[here.node]:
                here, there = there, here
            before, after = self._veth(link, here, there)
            up = _message(16, _DUE, _link(self.index[here.node, here.interface], 1))
            pairs.setdefault(here.node, []).append((there.node, before, after, up))
        return pairs

    def _veth(self, link: Link, here: object, there: object) -> tuple[bytes, bytes]:
        """The message before and after the descriptor of the other namespace."""
        mtu = _attribute(4, struct.pack("I", link.mtu))
        queues = _attribute(31, struct.pack("I", 1)) + _attribute(32, struct.pack("I", 1))

        def device(end: object, flags: int) -> bytes:
            return (
                _link(self.index[end.node, end.interface], flags)
                + _attribute(3, end.interface.encode() + b"\0")
                + _attribute(1, bytes.fromhex(end.mac.replace(":", "")))
                + mtu
                + queues
            )

        options = _attribute(0x8002, _attribute(0x8001, device(here, 0)))
        info = _attribute(0x8012, _attribute(1, b"veth") + options)
        message = _message(16, _NEW, device(there, 1) + info + _attribute(28, bytes(4)))
        return message[:-4], b""

    def _configuration(self, node: Node) -> list[bytes]:
        messages = []
        for port in node.interfaces:
            for text in port.addresses:
                address, _, length = text.partition("/")
                packed = socket.inet_aton(address)
                head = struct.pack("BBBBi", 2, int(length), 0, 0, self.index[node.name, port.name])
                body = head + _attribute(1, packed) + _attribute(2, packed)
                messages.append(_message(20, _NEW, body))
        for route in node.routes:
            address, _, length = route.destination.partition("/")
            body = struct.pack("BBBBBBBBI", 2, int(length), 0, 0, 254, 3, 0, 1, 0)
            if int(length):
                body += _attribute(1, socket.inet_aton(address))
            body += _attribute(5, socket.inet_aton(route.gateway))
            messages.append(_message(24, _NEW, body))
        return messages


def _exchange(handle: socket.socket, data: bytes, answers: int) -> None:
    handle.send(data)
    while answers:
        reply = handle.recv(1 << 16)
        offset = 0
        while offset < len(reply):
            (length,) = struct.unpack_from("I", reply, offset)
            (error,) = struct.unpack_from("i", reply, offset + 16)
            assert error == 0, os.strerror(-error)
            answers -= 1
            offset += (length + 3) & ~3


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _link(index: int, up: int) -> bytes:
    return struct.pack("BxHiII", 0, 0, index, up, up)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
