"""What techniques are acted out with: two ports that probe each other, servers that are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.predict import reasons
from lab.predict.network import Network
from lab.predict.packet import TCP, UDP, Arrived, Endpoint, Lost, Why
from lab.predict.peers import Peer

CALLER_PORT, CALLEE_PORT = 40001, 40002
"""Any that are not another's: programs get theirs from the ephemeral range."""


@dataclass(slots=True)
class Side:
    """A UDP port of a peer, and where it sends to."""

    peer: Peer
    port: int
    active: bool = True
    """Whether it sends before it has heard anything."""
    external: dict[int, Endpoint] = field(default_factory=dict)
    """What STUN showed, by address family."""
    remotes: list[Endpoint] = field(default_factory=list)

    @property
    def candidates(self) -> list[Endpoint]:
        """Where it says that it is."""
        hosts = [Endpoint(address, self.port) for address in self.peer.addresses]
        found = dict.fromkeys((*hosts, *self.external.values()))
        return sorted(found, key=lambda endpoint: -endpoint.family)

    def add(self, endpoint: Endpoint) -> None:
        if endpoint not in self.remotes:
            self.remotes.append(endpoint)


@dataclass(slots=True)
class Exchange:
    """Two UDP ports that probe each other (`lab.peer.traversal.prober`)."""

    network: Network
    caller: Side
    callee: Side
    path: Arrived | None = None
    """The caller's packet that came through and was answered."""
    protocol: str = UDP
    """With TCP, a port that listens and connects at the same time: what admits a datagram
    admits a SYN, and whoever hears one answers it (`pairs.punches`)."""

    def run(self) -> bool:
        """Probe until there is a path, or until no packet does anything new."""
        before = -1
        while not self._best() and before != (before := self._known()):
            for one, other in ((self.callee, self.caller), (self.caller, self.callee)):
                if one.active:
                    for remote in tuple(one.remotes):
                        self._probe(one, other, remote)
        return self.path is not None

    def _best(self) -> bool:
        """Whether there is a path, and none over IPv6 may still be found instead of it."""
        if self.path is None:
            return False
        over = self.path.packet.family
        return all(remote.family <= over for remote in self.caller.remotes)

    def _known(self) -> int:
        return self.network.size + len(self.caller.remotes) + len(self.callee.remotes)

    def send(self, one: Side, other: Side, remote: Endpoint) -> Arrived | Lost:
        """Send a packet; whether it reaches the other side's port."""
        came = self.network.send(one.peer.name, self.protocol, one.port, remote)
        if isinstance(came, Lost):
            return came
        if (came.at, came.packet.destination.port) != (other.peer.name, other.port):
            return stranger(came)
        return came

    def _probe(self, one: Side, other: Side, remote: Endpoint) -> None:
        came = self.send(one, other, remote)
        if isinstance(came, Lost):
            return
        other.add(came.packet.source)
        answer = self.send(other, one, came.packet.source)
        if isinstance(answer, Lost):
            return
        one.add(answer.packet.source)
        # An answer counts only from where the question went.
        counts = one is self.caller and answer.packet.source == remote
        if counts and (self.path is None or came.packet.family > self.path.packet.family):
            self.path = came


def signalling(network: Network, a: Peer, b: Peer) -> str:
    """Why the two can't agree on an attempt; empty if they can."""
    for peer in (a, b):
        if peer.silent:
            return f"{peer.name} runs no peer"
        if not peer.rendezvous:
            return f"{peer.name} is told of no rendezvous service"
        if network.map.nodes[peer.name].proxy:
            continue  # by a tunnel, or by whole requests, which a proxy passes on to any port
        if lost := reach(network, peer.name, TCP, peer.rendezvous):
            why = reasons.of_loss(network, lost, peer.name, "the rendezvous service")
            return f"{peer.name} does not reach the rendezvous service: {why}"
    return ""


def learn(network: Network, side: Side, protocol: str = UDP) -> Lost | None:
    """Ask STUN in each family from the side's port; what was lost if there is no answer at all."""
    losses = []
    for server in side.peer.stun:
        came = network.send(side.peer.name, protocol, side.port, server)
        if isinstance(came, Lost):
            losses.append(came)
            continue
        answer = network.send(came.at, protocol, came.packet.destination.port, came.packet.source)
        if isinstance(answer, Lost):
            losses.append(answer)
        else:
            side.external[server.family] = came.packet.source
    return losses[0] if losses and not side.external else None


def reach(network: Network, name: str, protocol: str, servers: Sequence[Endpoint]) -> Lost | None:
    """Send to endpoints of one server and back; what was lost if that fails with all."""
    losses = [roundtrip(network, name, protocol, server) for server in servers]
    return None if None in losses else losses[0]


def roundtrip(network: Network, name: str, protocol: str, server: Endpoint) -> Lost | None:
    """Send to a server and back; what was lost if that fails."""
    came = network.send(name, protocol, CALLER_PORT + 10, server)
    if isinstance(came, Lost):
        return came
    if came.packet.destination.address not in network.map.addresses(came.at):
        return stranger(came)
    answer = network.send(came.at, protocol, came.packet.destination.port, came.packet.source)
    return answer if isinstance(answer, Lost) else None


def stranger(came: Arrived) -> Lost:
    return Lost(Why.STRANGER, came.at, came.packet, came.trail)
