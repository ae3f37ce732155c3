"""What the ferry does between its devices; here they are sockets that keep frames apart."""

from __future__ import annotations

import socket
import threading

from msgspec.structs import replace

from lab.fabric.links.ferry.engine import Engine
from lab.plan.model import End, Link
from lab.topology.character import Backend, Impairment

LINK = Link(
    a=End(node="a", interface="eth0", mac="02:00:00:00:00:01"),
    b=End(node="b", interface="eth0", mac="02:00:00:00:00:02"),
    backend=Backend.FERRY,
)
DEADLINE_S = 30.0


def device() -> tuple[socket.socket, int]:
    """What a node sends and receives by, and the ferry's end of it."""
    node, ferry = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ferry.setblocking(False)
    node.settimeout(DEADLINE_S)
    return node, ferry.detach()


def test_a_change_is_for_what_is_sent_after_it_not_for_what_was_not_read_yet():
    engine = Engine(1)
    (alice, end_a), (bob, end_b) = device(), device()
    engine.attach(LINK, end_a, end_b)
    for number in range(30):
        alice.send(bytes([number]))
    engine.shape(replace(LINK, a_to_b=Impairment(duplicate=1.0)))
    for number in range(30, 40):
        alice.send(bytes([number]))
    carries = threading.Thread(target=engine.run)
    carries.start()
    try:
        found = sorted(bob.recv(64)[0] for _ in range(50))
    finally:
        engine.stop()
        alice.close()  # Which wakes it.
        carries.join(DEADLINE_S)
        bob.close()
    assert found == sorted([*range(40), *range(30, 40)])
