"""Options of queueing disciplines, as linux/pkt_sched.h has them: bytes for a netlink message.

Encoded here and not by pyroute2, whose netem has no distributions, bursts,
seeds, rates above 32 bits, or delays finer than a clock tick, and which takes
longer to encode a message than the kernel to carry it out.
"""

from __future__ import annotations

import struct
from array import array

from lab.fabric.links.aqm import INTERVAL_NS, TARGET_NS
from lab.fabric.links.jitter import table_of
from lab.fabric.links.transmitter import FULL_FRAME, queue_packets
from lab.fabric.netlink import attribute
from lab.topology.character import Discipline, Impairment, Order, QueueUnit
from lab.topology.datafiles import TABLE_SCALE

DELAY_LINE_PACKETS = 1_000_000
"""What the delay line holds: more than any sender here can put on its way in a second."""

UNLIMITED_BYTES_S = 1 << 50
"""The rate of a netem that has none: a full frame takes less than a nanosecond."""

NETEM_PRNG_SEED = 14

_NETEM_DELAY_DIST = 2
_NETEM_REORDER = 3
_NETEM_CORRUPT = 4
_NETEM_LOSS = 5
_NETEM_LOSS_GE = 2
_NETEM_RATE = 6
_NETEM_RATE64 = 8
_NETEM_LATENCY64 = 10
_NETEM_JITTER64 = 11
_TBF_PARMS = 1
_TBF_RATE64 = 4
_TBF_BURST = 6
_CODEL_TARGET = 1
_CODEL_LIMIT = 2
_CODEL_INTERVAL = 3
_CODEL_ECN = 4
_CODEL_QUANTUM = 6
_LINKLAYER_ETHERNET = 1
_LONGEST_BURST = 1 << 24
_NESTED = 0x8000
_ALL = 0xFFFFFFFF


def delay_line(impairment: Impairment, seed: int) -> bytes:
    """A netem that does all of `impairment` but its rate; `seed` 0 for one of the kernel's own.

    What a change leaves out stays as it was, so everything is always there.
    netem keeps the order where it has a rate, so one that is to keep it has a
    rate that is too fast to matter.  Raises LabError if a file is gone.
    """
    reorder = _share(impairment.reorder)
    keeps = impairment.order is Order.KEEP
    loss = impairment.loss if impairment.bursts is None else 0.0
    return (
        struct.pack(
            "=IIIIII",
            0,
            DELAY_LINE_PACKETS,
            _share(loss),
            1 if reorder else 0,
            _share(impairment.duplicate),
            0,
        )
        + attribute(_NETEM_LATENCY64, struct.pack("=q", impairment.delay_us * 1000))
        + attribute(_NETEM_JITTER64, struct.pack("=q", impairment.jitter_us * 1000))
        + (attribute(_NETEM_DELAY_DIST, _table(impairment)) if impairment.jitter_us else b"")
        + (attribute(_NETEM_REORDER, struct.pack("=II", reorder, 0)) if reorder else b"")
        + attribute(_NETEM_CORRUPT, struct.pack("=II", _share(impairment.corrupt), 0))
        + _bursts(impairment)
        + _rate(UNLIMITED_BYTES_S if keeps else 0)
        + (attribute(NETEM_PRNG_SEED, struct.pack("=Q", seed)) if seed else b"")
    )


def transmitter(impairment: Impairment) -> bytes:
    """A netem that is a rate and the queue before it, in packets; transparent without a rate."""
    limit = queue_packets(impairment) or DELAY_LINE_PACKETS
    rate = _bytes_s(impairment)
    return (
        struct.pack("=IIIIII", 0, limit, 0, 0, 0, 0)
        + attribute(_NETEM_LATENCY64, bytes(8))
        + _rate(rate)
    )


def token_bucket(impairment: Impairment) -> bytes:
    """A TBF of the rate, with a queue in bytes.

    The bucket holds one full frame, or a millisecond's worth for rates at
    which the kernel's timers would not keep up with single frames.
    """
    rate = _bytes_s(impairment)
    burst = min(max(FULL_FRAME + 4, rate // 1000), _LONGEST_BURST)
    limit = (queue_packets(impairment) or DELAY_LINE_PACKETS) * FULL_FRAME
    if impairment.queue.unit is QueueUnit.BYTES:
        limit = int(impairment.queue.length)
    # A struct tc_ratespec each for the rate and the (absent) peak rate; with a
    # link layer given, no table of 256 times is needed.
    spec = struct.pack("=BBHhHI", 0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _ALL))
    peak = bytes(12)
    parameters = spec + peak + struct.pack("=III", min(limit, _ALL), 0, 0)
    return (
        attribute(_TBF_PARMS, parameters)
        + attribute(_TBF_BURST, struct.pack("=I", burst))
        + (attribute(_TBF_RATE64, struct.pack("=Q", rate)) if rate > _ALL else b"")
    )


def active(impairment: Impairment) -> tuple[str, bytes]:
    """The kind and the options of an active queue, with the ferry's parameters and no ECN."""
    numbers = {
        _CODEL_TARGET: TARGET_NS // 1000,
        _CODEL_LIMIT: queue_packets(impairment) or DELAY_LINE_PACKETS,
        _CODEL_INTERVAL: INTERVAL_NS // 1000,
        _CODEL_ECN: 0,
    }
    kind = "codel"
    if impairment.discipline is Discipline.FQ_CODEL:
        kind = "fq_codel"
        # The number of flows can't be said again, and is the kernel's own: 1024.
        numbers[_CODEL_QUANTUM] = FULL_FRAME
    options = b"".join(attribute(key, struct.pack("=I", n)) for key, n in numbers.items())
    return kind, options


def _share(probability: float) -> int:
    return round(probability * _ALL)


def _bytes_s(impairment: Impairment) -> int:
    return max(1, impairment.rate_bit // 8) if impairment.rate_bit else UNLIMITED_BYTES_S


def _rate(rate: int) -> bytes:
    # Rates that don't fit into 32 bits are at the ceiling in the old attribute.
    return attribute(_NETEM_RATE, struct.pack("=IiIi", min(rate, _ALL), 0, 0, 0)) + (
        attribute(_NETEM_RATE64, struct.pack("=Q", rate)) if rate > _ALL else b""
    )


def _table(impairment: Impairment) -> bytes:
    """The distribution, also where it is uniform: netem keeps one that it had otherwise."""
    table = table_of(impairment)
    if table is None:
        steps = 4096
        scale = 2 * TABLE_SCALE / steps
        table = array("h", (round((n + 0.5) * scale) - TABLE_SCALE for n in range(steps)))
    return table.tobytes()


def _bursts(impairment: Impairment) -> bytes:
    """The chain; netem has it or chance, so what is lost by chance is added to each state."""
    bursts = impairment.bursts
    if bursts is None:
        return b""
    kept = 1 - impairment.loss
    model = struct.pack(
        "=IIII",
        _share(bursts.p),
        _share(bursts.r),
        _share((1 - bursts.bad) * kept),
        _share(1 - (1 - bursts.good) * kept),
    )
    return attribute(_NETEM_LOSS | _NESTED, attribute(_NETEM_LOSS_GE, model))
