"""The kernel backend where there may be no netem: the probe, and what TBF can do.

netem itself is tested in a VM that has it (tests/vm/test_netem.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError, MissingError
from lab.fabric import netns
from lab.fabric.links import kernel
from lab.topology.character import Backend, Impairment
from tests.kernel.links.conformance import ROOMY, SLACK_S, Wire, all_came, came_at, run
from tests.machine import measured

pytestmark = pytest.mark.kernel


@pytest.fixture
def wire(tmp_path):
    with Wire(Backend.KERNEL, tmp_path) as made:
        yield made


def disciplines(wire: Wire) -> str:
    return run("tc", "-n", wire.spaces[0].name, "qdisc", "show", "dev", "eth0")


def test_the_probe_tells_what_shape_can_do(wire):
    here = Path("/proc/thread-self/ns/net").readlink()
    answer = kernel.supported()
    assert Path("/proc/thread-self/ns/net").readlink() == here
    with netns.inside(wire.spaces[0]):
        if answer:
            kernel.shape("eth0", Impairment(delay_us=1000))
        else:
            with pytest.raises(MissingError) as caught:
                kernel.shape("eth0", Impairment(delay_us=1000))
            assert "`ferry`" in caught.value.remedy


def test_a_rate_alone_needs_no_netem(tmp_path):
    rate, count = 8_000_000, 150

    def check() -> None:
        with Wire(Backend.KERNEL, tmp_path) as wire:
            wire.shape(Impairment(rate_bit=rate, queue=ROOMY))
            for i in range(count):
                wire.send(i, 1514)
            arrivals = wire.receive(count)
            all_came(arrivals, count)
            # The bucket's first frames pass at once.
            came_at(arrivals[4:], rate)

    measured(check, SLACK_S, again=True)


def test_a_change_keeps_what_is_queued(wire):
    wire.shape(Impairment(rate_bit=1_000_000))
    for i in range(50):
        wire.send(i, 1514)
    wire.shape(Impairment(rate_bit=50_000_000))
    wire.shape()
    wire.send(50)
    assert [arrival.number for arrival in wire.receive(51)] == list(range(51))


def test_packets_are_single_segments(wire):
    wire.shape(Impairment(rate_bit=1_000_000))
    shown = run("ip", "-n", wire.spaces[0].name, "-d", "link", "show", "eth0")
    assert "gso_max_segs 1 " in shown


def test_clear_removes_and_none_makes_nothing(wire):
    plain = disciplines(wire)
    wire.shape()
    assert disciplines(wire) == plain
    wire.shape(Impairment(rate_bit=1_000_000))
    assert disciplines(wire) != plain
    with netns.inside(wire.spaces[0]):
        kernel.clear("eth0")
        kernel.clear("eth0")
    assert disciplines(wire) == plain


def test_an_interface_that_is_not_there(wire):
    with netns.inside(wire.spaces[0]), pytest.raises(LabError, match="no interface eth7"):
        kernel.shape("eth7", Impairment(delay_us=1))


def test_rates_beyond_32_bits(wire):
    wire.shape(Impairment(rate_bit=100_000_000_000))
    assert "100Gbit" in disciplines(wire)
