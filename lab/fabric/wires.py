"""What a lab knows of its wires: whose address and MAC are at the other end.

The kernel's neighbour tables have one limit for all namespaces together
(net.ipv4.neigh.default.gc_thresh3, 1024 unless the host says otherwise): with
300 homes talking at once, packets are dropped for want of an ARP entry.
Permanent entries are not counted.  So the two ends of a wire between two
nodes are told of each other; on a shared segment ARP does its work.  It also
keeps ARP out of captures and out of the first packet's delay.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from lab.fabric.configure import Neighbour
from lab.plan.model import Link, Node, NodeKind

_Place = tuple[str, str]
"""Node and interface."""


class Wires:
    """Grows as links are made and nodes configured; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._others: dict[_Place, tuple[_Place, str]] = {}
        self._addresses: dict[_Place, tuple[str, ...]] = {}

    def joined(self, links: Iterable[Link]) -> None:
        """These links exist from here on."""
        with self._lock:
            for link in links:
                for here, there in ((link.a, link.b), (link.b, link.a)):
                    place = (here.node, here.interface)
                    self._others[place] = ((there.node, there.interface), there.mac)

    def addressed(self, nodes: Iterable[Node]) -> None:
        """These nodes have their addresses from here on."""
        with self._lock:
            for node in nodes:
                for port in node.interfaces:
                    self._addresses[node.name, port.name] = port.addresses

    def neighbours(self, node: Node) -> list[Neighbour]:
        """Who is at the other ends of the wires of `node`, as far as it is known.

        What is not known yet is asked for by ARP, as ever.  A switch sends to
        nobody by itself.
        """
        if node.kind is NodeKind.SEGMENT:
            return []
        with self._lock:
            return [
                Neighbour(port.name, address, mac)
                for port in node.interfaces
                for place, mac in (self._others.get((node.name, port.name), (("", ""), "")),)
                for address in self._addresses.get(place, ())
            ]
