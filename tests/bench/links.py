"""What a link costs: packets per second, delay error, TCP of the ferry, beside a plain veth.

Where the kernel has netem, that is measured, too.

`python -m tests.bench.links [--seconds 3] [--links 100] [--json FILE]`, as root; JSON on stdout.

Packets are counted where the receiving interface counts them.  Delays are
the kernel's receive stamp (SO_TIMESTAMPNS) minus the sender's clock just
before the call that sends; nobody reads the receiving socket until the end,
so that no reader competes for the processors.  Of many links every tenth is
measured: the kernel would need fresh memory for every packet kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import secrets
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from lab.fabric import netns
from lab.fabric.links import kernel, tap
from lab.fabric.links.ferry import Ferry
from lab.fabric.splice import Splices
from lab.observe import host
from lab.paths import NETNS_DIR, LabPaths
from lab.plan.model import End, Link
from lab.plan.names import SPLICED
from lab.topology.character import Backend, Distribution, Impairment

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SOL_UDP = 17
_UDP_SEGMENT = 103
_PAYLOAD = 1200
_FRAME = _PAYLOAD + 42
_PORT = 7
_DISCARD = 9
_MEASURED = 10
"""Of so many links one is measured."""
_GSO_SEGMENTS = 40


class Bed:
    """Two namespaces with some links between them; link i is 10.i.0.1 to 10.i.0.2."""

    def __init__(self, folder: Path) -> None:
        name = f"b-links-{secrets.token_hex(3)}"
        self.paths = LabPaths(folder / name)
        self.a = NETNS_DIR / f"{name}.a"
        self.b = NETNS_DIR / f"{name}.b"
        self.ferry: Ferry | None = None

    def veth(self) -> None:
        command = f"ip -n {self.a.name} link add e0 type veth peer name e0 netns {self.b.name}"
        run(*command.split())
        self._address(0)

    def shaped(self, impairment: Impairment) -> None:
        """A veth pair with the kernel backend in each direction."""
        self.veth()
        for path in (self.a, self.b):
            with netns.inside(path):
                kernel.shape("e0", impairment, 1)

    def ferried(self, count: int, impairment: Impairment) -> None:
        self.ferry = Ferry.start(self.paths, 1)
        for i in range(count):
            link = Link(
                a=End(node="a", interface=f"e{i}", mac=f"02:00:00:00:{i:02x}:01"),
                b=End(node="b", interface=f"e{i}", mac=f"02:00:00:00:{i:02x}:02"),
                a_to_b=impairment,
                b_to_a=impairment,
                backend=Backend.FERRY,
            )
            ends = []
            for path, end in ((self.a, link.a), (self.b, link.b)):
                with netns.inside(path):
                    ends.append(tap.create(end.interface, end.mac, link.mtu))
            self.ferry.attach(link, *ends)
            self._address(i)

    def spliced(self, impairment: Impairment) -> None:
        """A veth pair that the ferry was put into while it was there."""
        self.veth()
        self.ferry = Ferry.start(self.paths, 1)
        macs = [mac_of(path) for path in (self.a, self.b)]
        link = Link(
            a=End(node="a", interface="e0", mac=macs[0]),
            b=End(node="b", interface="e0", mac=macs[1]),
            a_to_b=impairment,
            b_to_a=impairment,
            backend=Backend.FERRY,
            spliced=True,
        )
        self.splices = Splices({"a": self.a, "b": self.b}.__getitem__)
        self.splices.insert(link, self.ferry)

    def _address(self, i: int) -> None:
        ways = ((self.a, 1, self.b, 2), (self.b, 2, self.a, 1))
        for path, own, peer, other in ways:
            ip = ("ip", "-n", path.name)
            mac = mac_of(peer, f"e{i}")
            run(*ip, "address", "add", f"10.{i}.0.{own}/24", "dev", f"e{i}")
            run(*ip, "link", "set", f"e{i}", "up")
            run(*ip, "neighbour", "replace", f"10.{i}.0.{other}", "lladdr", mac, "dev", f"e{i}")


@contextlib.contextmanager
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory() as folder:
        made = Bed(Path(folder))
        netns.create(made.a)
        netns.create(made.b)
        try:
            yield made
        finally:
            if made.ferry:
                made.ferry.close()
            netns.delete(made.a)
            netns.delete(made.b)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mac_of(path: Path, interface: str = "e0") -> str:
    shown = json.loads(run("ip", "-n", path.name, "-j", "link", "show", interface))
    return str(shown[0]["address"])


def received(path: Path, interface: str = "e0") -> int:
    with netns.inside(path):
        if any(name.startswith(SPLICED) for _, name in socket.if_nameindex()):
            # The interface itself also counts what is dropped before anybody sees it.
            interface = f"{SPLICED}{socket.if_nametoindex(interface)}"
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, numbers = line.strip().partition(":")
            if name == interface:
                return int(numbers.split()[1])
    raise KeyError(interface)


def flood(path: Path, seconds: float, segments: int) -> None:
    """Send as fast as it goes; `segments` datagrams a call (UDP_SEGMENT)."""
    with netns.inside(path), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        if segments > 1:
            handle.setsockopt(_SOL_UDP, _UDP_SEGMENT, _PAYLOAD)
        handle.connect(("10.0.0.2", _PORT))
        data = bytes(_PAYLOAD * segments)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                handle.send(data)


def paced(
    path: Path, seconds: float, period_ns: int, links: int, rounds: Synchronized[int]
) -> None:
    """Every period one stamped packet through every link; `rounds` counts how often.

    A sender that was held up goes on, and does not send the sooner for it.
    """
    with netns.inside(path), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        to = [(f"10.{i}.0.2", _DISCARD if i % _MEASURED else _PORT) for i in range(links)]
        clock = time.clock_gettime_ns
        pad = bytes(92)
        due = time.monotonic_ns()
        end = due + int(seconds * 1e9)
        while due < end:
            if (wait := due - time.monotonic_ns()) > 0:
                time.sleep(wait / 1e9)
            for address in to:
                handle.sendto(struct.pack("Q", clock(time.CLOCK_REALTIME)) + pad, address)
            rounds.value += 1
            due = max(due + period_ns, time.monotonic_ns() - period_ns)


def throughput(made: Bed, seconds: float, segments: int, warm: int = 1000) -> dict[str, float]:
    """What arrives of a flood within `seconds`, after the first `warm` packets."""
    sender = multiprocessing.Process(target=flood, args=(made.a, seconds + 1, segments))
    with netns.inside(made.b):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("0.0.0.0", _PORT))
    sender.start()
    there = received(made.b)
    while received(made.b) < there + warm and sender.is_alive():
        time.sleep(0.01)
    before, cpu, busy, start = received(made.b), cpu_s(made), busy_s(), time.monotonic()
    time.sleep(seconds)
    count, took = received(made.b) - before, time.monotonic() - start
    used, all_used = cpu_s(made) - cpu, busy_s() - busy
    sender.join()
    sink.close()
    return {
        "kpps": round(count / took / 1e3, 1),
        "mbit_s": round(count * _FRAME * 8 / took / 1e6, 1),
        "ferry_cpu": round(used / took, 2),
        "ferry_us_per_packet": round(used / count * 1e6, 2) if made.ferry else 0.0,
        "machine_us_per_packet": round(all_used / count * 1e6, 2),
    }


def cpu_s(made: Bed) -> float:
    if made.ferry is None:
        return 0.0
    fields = Path(f"/proc/{made.ferry.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Processor time that the whole machine has spent, on whatever."""
    total, idle, _ = host.parse_stat(Path("/proc/stat").read_text())
    return total - idle


def delay(
    made: Bed, seconds: float, period_ns: int, links: int, nominal_us: int
) -> dict[str, float]:
    with netns.inside(made.b):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 30)
        sink.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sink.bind(("0.0.0.0", _PORT))
        sink.setblocking(False)
        discard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        discard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        discard.bind(("0.0.0.0", _DISCARD))
    done = multiprocessing.Value("q", 0)
    sender = multiprocessing.Process(target=paced, args=(made.a, seconds, period_ns, links, done))
    start, cpu = time.monotonic(), cpu_s(made)
    sender.start()
    sender.join()
    took = time.monotonic() - start
    used = cpu_s(made) - cpu
    time.sleep(nominal_us / 1e6 + 0.2)
    errors = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data, ancillary, _, _ = sink.recvmsg(128, 64)
            (sent,) = struct.unpack_from("Q", data)
            seconds_, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
            errors.append((seconds_ * 10**9 + nanoseconds - sent) / 1e3 - nominal_us)
    sink.close()
    discard.close()
    errors.sort()
    rounds = done.value
    expected = rounds * -(-links // _MEASURED)
    return {
        "packets": len(errors),
        "missing": expected - len(errors),
        "offered_kpps": round(rounds * links / took / 1e3, 1),
        "error_us_min": round(errors[0], 1),
        "error_us_median": round(statistics.median(errors), 1),
        "error_us_p99": round(errors[int(len(errors) * 0.99)], 1),
        "error_us_max": round(errors[-1], 1),
        "ferry_cpu": round(used / took, 2),
    }


def tcp(made: Bed, seconds: float) -> dict[str, float]:
    """What one TCP connection brings, in the second half: without the slow start.

    The receiver counts: what the sender has handed over may still wait in a queue.
    """
    inside = ("ip", "netns", "exec")
    server = subprocess.Popen(
        (*inside, made.b.name, "iperf3", "-s", "-1", "-J"), stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with netns.inside(made.b):
            listening = Path("/proc/thread-self/net/tcp6").read_text()
        if ":1451 " in listening:  # 5201
            break
        time.sleep(0.01)
    client = (*inside, made.a.name, "iperf3", "-c", "10.0.0.2", "-J", "-t", str(int(seconds)))
    try:
        sent = json.loads(run(*client))
        arrived = json.loads(server.communicate(timeout=5)[0])
    finally:
        server.kill()
        server.wait()
    parts = [part["sum"] for part in arrived["intervals"]]
    half = parts[len(parts) // 2 :]
    steady = sum(part["bytes"] for part in half) * 8 / sum(part["seconds"] for part in half)
    return {
        "mbit_s": round(arrived["end"]["sum_received"]["bits_per_second"] / 1e6, 1),
        "steady_mbit_s": round(steady / 1e6, 1),
        "retransmits": sent["end"]["sum_sent"]["retransmits"],
    }


TCP_LINK = Impairment(rate_bit=100_000_000, delay_us=25_000)
"""50 ms there and back."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    options.add_argument("--links", type=int, default=100, help="for the many-links measurement")
    options.add_argument("--json", type=Path, help="write the report here, too")
    given = options.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    result: dict[str, object] = {"processors": os.cpu_count(), "kernel": os.uname().release}
    wire = Impairment(delay_us=20_000)
    with bed() as made:
        made.veth()
        result["veth_flood"] = throughput(made, given.seconds, 1)
        result["veth_10kpps"] = delay(made, given.seconds, 100_000, 1, 0)
    with bed() as made:
        made.ferried(1, wire)
        result["ferry_flood"] = throughput(made, given.seconds, _GSO_SEGMENTS)
        assert made.ferry
        result["real_time"] = made.ferry.stats().real_time
    with bed() as made:
        made.ferried(1, wire)
        result["ferry_10kpps_20ms"] = delay(made, given.seconds, 100_000, 1, wire.delay_us)
        assert made.ferry
        lateness = made.ferry.stats().lateness
        result["ferry_10kpps_lateness_us"] = {
            "median": lateness.quantile_s(0.5) * 1e6,
            "p99": lateness.quantile_s(0.99) * 1e6,
            "worst": lateness.worst_ns / 1e3,
        }
    with bed() as made:
        made.ferried(given.links, wire)
        result[f"ferry_{given.links}_links_1kpps"] = delay(
            made, given.seconds, 1_000_000, given.links, wire.delay_us
        )
    rich = Impairment(
        delay_us=wire.delay_us, jitter_us=5_000, distribution=Distribution.NORMAL, duplicate=1e-9
    )
    with bed() as made:
        made.ferried(1, rich)
        result["ferry_flood_with_jitter"] = throughput(made, given.seconds, _GSO_SEGMENTS)
    with bed() as made:
        made.spliced(wire)
        result["spliced_flood"] = throughput(made, given.seconds, _GSO_SEGMENTS)
    with bed() as made:
        made.spliced(wire)
        result["spliced_10kpps_20ms"] = delay(made, given.seconds, 100_000, 1, wire.delay_us)
    if shutil.which("iperf3"):
        with bed() as made:
            made.ferried(1, TCP_LINK)
            result["ferry_tcp_100mbit_50ms"] = tcp(made, 10)
        with bed() as made:
            made.spliced(TCP_LINK)
            result["spliced_tcp_100mbit_50ms"] = tcp(made, 10)
    if kernel.supported():
        with bed() as made:
            made.shaped(wire)
            result["netem_flood"] = throughput(made, given.seconds, 1)
        with bed() as made:
            made.shaped(wire)
            result["netem_10kpps_20ms"] = delay(made, given.seconds, 100_000, 1, wire.delay_us)
        if shutil.which("iperf3"):
            with bed() as made:
                made.shaped(TCP_LINK)
                result["netem_tcp_100mbit_50ms"] = tcp(made, 10)
    report = json.dumps(result, indent=2)
    if given.json:
        given.json.write_text(report + "\n", encoding="ascii")
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
