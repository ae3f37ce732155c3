"""One end of a wire beside a router: frames go in, frames come out, no kernel in between.

A packet socket on the neighbour's interface sends past the neighbour's own
stack and sees what arrives before it.  Frames carry a MAC address that nobody
has, so the neighbour itself takes no notice of the answers.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from lab.errors import LabError
from lab.fabric import packets as sockets
from lab.fabric.packets import EQUAL, GIVE, LOAD_BYTE, LOAD_HALF, LOAD_WORD
from lab.peer.endpoint import Endpoint
from lab.peer.families import Embedding
from lab.verify import packets6
from lab.verify.packets import ArpRequest, Packet, arp_reply, arp_request, decode, encode, mac

OWN_MAC = mac("02:6c:61:62:76:00")
"""Locally administered, like those of the plan, whose hashes never end so."""


class Wire:
    """A packet socket at one end of a wire, `peer_mac` being the other end's address.

    Hears packets to `addresses` alone, all of one family, and answers who asks
    where those in `own` are.  With `ipv4`, packets to and from IPv4 addresses
    look on the wire as they do before a NAT64.
    """

    def __init__(
        self,
        path: Path,
        interface: str,
        peer_mac: str,
        *,
        addresses: Iterable[str],
        own: Iterable[str] = (),
        outgoing: bool = False,
        ipv4: Embedding | None = None,
    ) -> None:
        self._ipv4 = ipv4
        self._peer = mac(peer_mac)
        self._own = frozenset(own)
        self._outgoing = outgoing
        """Whether to look at what the interface's own machine sends, and at nothing else."""
        heard = sorted({*addresses, *self._own})
        six = any(":" in address for address in heard)
        with sockets.opening(
            path,
            socket.SOCK_RAW,
            f"interface {interface} of {path.name}",
            room=1 << 20,
            outgoing=outgoing,
            program=_filter6(heard) if six else _filter(heard),
        ) as self._socket:
            self._socket.bind((interface, sockets.ALL))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, packet: Packet) -> None:
        """Put `packet` on the wire."""
        if self._ipv4:
            packet = packet.to(self._ipv4.wrap(packet.destination))
        make = packets6.encode if packet.destination.family == 6 else encode
        self._put(make(packet, OWN_MAC, self._peer))

    def announce(self, router: str) -> None:
        """Let the router know where the hosts of this wire are, as a host does that wakes up.

        A router that has just asked for one in vain would not ask again for a second.
        """
        for address in sorted(self._own):
            ask = packets6.solicitation if ":" in address else arp_request
            self._put(ask(address, router, OWN_MAC))

    def receive(self) -> Iterator[Packet]:
        """What has arrived; ARP and neighbour discovery are answered on the way."""
        while True:
            try:
                frame, where = self._socket.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError as error:
                raise LabError(f"an interface went away: {error.strerror}") from error
            if (where[2] == sockets.OUTGOING) != self._outgoing:
                continue
            six = frame[12:14] == packets6.ETHERTYPE.to_bytes(2, "big")
            match packets6.decode(frame) if six else decode(frame):
                case Packet() as packet:
                    yield replace(packet, source=self._unwrapped(packet.source))
                case ArpRequest(wanted=wanted) as request if wanted in self._own:
                    self._put(arp_reply(request, OWN_MAC))
                case packets6.Solicitation(wanted=wanted) as asked if wanted in self._own:
                    self._put(packets6.advertisement(asked, OWN_MAC))

    def _unwrapped(self, source: Endpoint) -> Endpoint:
        return self._ipv4.unwrap(source) if self._ipv4 and source.family == 6 else source

    def _put(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except BlockingIOError:
            return  # As lost as on a wire; who sent it sends again.
        except OSError as error:
            raise LabError(
                f"can't send on an interface beside the router: {error.strerror}",
                remedy="is the link up?  A link that is down can't be verified.",
            ) from error


def _filter6(addresses: list[str]) -> sockets.Program:
    """A classic BPF program: neighbour solicitations, and IPv6 to one of `addresses`."""
    lines = [
        (LOAD_HALF, 0, 0, 12),
        (EQUAL, 1, 0, packets6.ETHERTYPE),
        (GIVE, 0, 0, 0),
        (LOAD_BYTE, 0, 0, 20),
        (EQUAL, 0, 3, packets6.ICMP),
        (LOAD_BYTE, 0, 0, 54),
        (EQUAL, 0, 1, packets6.SOLICITATION),
        (GIVE, 0, 0, 0xFFFF),
    ]
    for address in addresses:
        words = struct.unpack("!4I", socket.inet_pton(socket.AF_INET6, address))
        for index, word in enumerate(words):
            # A word that differs leads behind the last line of this address.
            lines += [(LOAD_WORD, 0, 0, 38 + 4 * index), (EQUAL, 0, 7 - 2 * index, word)]
        lines.append((GIVE, 0, 0, 0xFFFF))
    return [*lines, (GIVE, 0, 0, 0)]


def _filter(addresses: list[str]) -> sockets.Program:
    """A classic BPF program: ARP, and IPv4 to one of `addresses`.

    The rest of a busy lab's traffic never comes out of the kernel.
    """
    count = len(addresses)
    # A jump reaches 255 lines.
    if count > 250:
        return [(GIVE, 0, 0, 0xFFFF)]
    wanted = [struct.unpack("!I", socket.inet_aton(address))[0] for address in addresses]
    return [
        (LOAD_HALF, 0, 0, 12),
        (EQUAL, count + 3, 0, 0x0806),
        (EQUAL, 0, count + 1, 0x0800),
        (LOAD_WORD, 0, 0, 30),
        *((EQUAL, count - index, 0, value) for index, value in enumerate(wanted)),
        (GIVE, 0, 0, 0),
        (GIVE, 0, 0, 0xFFFF),
    ]
