"""The program inside a node: peer, STUN server, rendezvous service, relay.

It stands alone: the standard library, aioice's STUN codec, cryptography, and
nothing of the rest of lab, so that an image needs little more than Python.
Protocols (`stun`, `rendezvous`, `relay`, `traversal`) are state machines
without sockets or clocks; `driver` and the modules named `service` lend them
both, `servers` and `node` put the roles together, and docs/contract.md is all
that it shares with the world outside.
"""

from __future__ import annotations


def preload() -> None:
    """Import and try everything that a peer needs, for a process that is going to fork peers.

    Call `gc.freeze()` afterwards.  It opens no socket and starts no thread.
    """
    import lab.peer.main  # noqa: F401, PLC0415 - heavy, and only a peer needs it
    from lab.peer.rehearse import rehearse  # noqa: PLC0415 - as above

    rehearse()


def rehearse_live() -> None:
    """Have peers connect in this thread's network, for a process that is going to fork peers.

    After `preload`, and in a network of its own: see `lab.peer.rehearse`.
    """
    from lab.peer import rehearse  # noqa: PLC0415 - as above

    rehearse.rehearse_live()
