"""Flows that are made to be looked at: each has a mapping of its own, and an end to knock from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.verify.packets import ACK, Packet
from lab.verify.probe import INSIDE, OUTSIDE, Sent
from lab.verify.trial import Trial


@dataclass(slots=True)
class Flow:
    """A flow through a mapping of its own."""

    inside: Endpoint
    external: Endpoint
    remote: Endpoint
    knock: Callable[[], Sent]
    """A packet from the remote end, which comes in as long as it may."""


def one_way(trial: Trial) -> Flow | None:
    """A first packet from inside, answered by nobody."""
    trial.begin()
    inside, remote = Endpoint(trial.probe.hosts[0], trial.fresh()), trial.destinations[0]
    first = trial.probe.out(trial.protocol, inside, remote)
    (outcome,) = trial.probe.exchange([first], [0])
    seen = outcome.on(OUTSIDE)
    if seen is None:
        return None
    external = seen.source

    def knock() -> Sent:
        if trial.protocol == "udp":
            return trial.probe.back("udp", remote, external)
        return Sent(OUTSIDE, seen.answered(trial.probe.tag()))

    return Flow(inside, external, remote, knock)


def connection(trial: Trial) -> Flow | None:
    """A TCP connection: both ends are played."""
    trial.begin()
    inside, remote = Endpoint(trial.probe.hosts[0], trial.fresh()), trial.destinations[0]
    first = trial.probe.out("tcp", inside, remote)
    (outcome,) = trial.probe.exchange([first], [0])
    seen = outcome.on(OUTSIDE)
    if seen is None:
        return None
    answer = seen.answered(trial.probe.tag())
    trial.probe.exchange([Sent(OUTSIDE, answer)], [0])
    third = Packet(
        "tcp",
        inside,
        remote,
        (first.packet.tag + 1) & 0xFFFFFFFF,
        flags=ACK,
        acknowledged=answer.tag,
        ttl=first.packet.ttl,
    )
    trial.probe.exchange([Sent(INSIDE, third)], [0])
    external = seen.source

    def knock() -> Sent:
        # A segment of the connection: its number is the one that the inside awaits.
        return Sent(
            OUTSIDE,
            Packet(
                "tcp",
                remote,
                external,
                (answer.tag + 1) & 0xFFFFFFFF,
                flags=ACK,
                acknowledged=first.packet.tag,
            ),
        )

    return Flow(inside, external, remote, knock)
