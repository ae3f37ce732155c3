"""What the host's kernel counts about itself: processor time, pressure, lost packets.

One `HostCounters` is a reading; what happened in a span of time is the
difference of two.  All of it concerns the whole machine, whichever network
namespace the reader is in.
"""

from __future__ import annotations

from pathlib import Path

from lab.topology.behaviour import Frozen


class HostCounters(Frozen, frozen=True):
    """Cumulative counters of the machine."""

    cpu_total_s: float
    """Processor time of all processors together, idle time included."""
    cpu_idle_s: float
    cpu_steal_s: float
    """Time in which the hypervisor ran something else."""
    pressure_s: float | None
    """Time in which some task was ready and had no processor (PSI); None if disabled."""
    softirq_drops: int
    """Packets that found a processor's backlog full: a veth's way to lose them."""
    softirq_squeezes: int
    """Times that network processing ran out of its budget with work left."""
    neighbour_overflows: int
    """Times that the neighbour table, which all namespaces share, was full."""


def read(proc: Path = Path("/proc")) -> HostCounters:
    """The counters now."""
    total, idle, steal = parse_stat((proc / "stat").read_text())
    dropped, squeezed = parse_softnet((proc / "net/softnet_stat").read_text())
    return HostCounters(
        cpu_total_s=total,
        cpu_idle_s=idle,
        cpu_steal_s=steal,
        pressure_s=_pressure(proc / "pressure/cpu"),
        softirq_drops=dropped,
        softirq_squeezes=squeezed,
        neighbour_overflows=sum(
            _overflows(proc / "net/stat" / table) for table in ("arp_cache", "ndisc_cache")
        ),
    )


_TICKS_PER_SECOND = 100
"""USER_HZ, on every architecture that runs us."""


def parse_stat(text: str) -> tuple[float, float, float]:
    """Total, idle and stolen processor seconds from /proc/stat (proc_stat(5))."""
    # user nice system idle iowait irq softirq steal; guest time is inside user.
    fields = [int(field) for field in text.splitlines()[0].split()[1:9]]
    return (
        sum(fields) / _TICKS_PER_SECOND,
        (fields[3] + fields[4]) / _TICKS_PER_SECOND,
        fields[7] / _TICKS_PER_SECOND,
    )


def parse_softnet(text: str) -> tuple[int, int]:
    """Dropped and squeezed from /proc/net/softnet_stat: hexadecimal, a line a processor."""
    rows = [line.split() for line in text.splitlines()]
    return sum(int(row[1], 16) for row in rows), sum(int(row[2], 16) for row in rows)


def parse_pressure(text: str) -> float:
    """Seconds of "some" pressure from /proc/pressure/cpu (microseconds there)."""
    some = next(line for line in text.splitlines() if line.startswith("some "))
    return int(some.rpartition("total=")[2]) / 1e6


def _pressure(path: Path) -> float | None:
    try:
        return parse_pressure(path.read_text())
    except OSError:
        return None  # not built, or not enabled at boot: reading says EOPNOTSUPP


def _overflows(path: Path) -> int:
    try:
        head, *rows = path.read_text().splitlines()
    except OSError:
        return 0  # no IPv6, or statistics not built
    names = head.split()
    if "table_fulls" not in names:
        return 0
    column = names.index("table_fulls")
    return sum(int(row.split()[column], 16) for row in rows)
