"""Messages to the kernel's packet filter, over nfnetlink (linux/netfilter/nfnetlink.h).

Each has a small header after netlink's own: the address family, or the family
of a table, is what matters of it.  Asked without one, the kernel means all.
"""

from __future__ import annotations

import socket
import struct

from lab.fabric.netlink import (
    NETFILTER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    Request,
    Session,
    attributes,
)

_OF_ALL = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)
"""A struct nfgenmsg."""


def entries(kind: int, purpose: str, subject: str) -> list[tuple[int, dict[int, bytes]]]:
    """Everything that a dump of `kind` tells: of each entry the family and the attributes.

    In the calling thread's namespace.  `purpose` and `subject` are for error
    texts.  Raises LabError if the kernel refuses.
    """
    with Session(NETFILTER) as session:
        (answer,) = session.read([Request(kind, NLM_F_REQUEST | NLM_F_DUMP, _OF_ALL, purpose)])
    if answer.refusal is not None:
        raise answer.refusal.error(subject)
    return [(body[0], dict(attributes(body[len(_OF_ALL) :]))) for body in answer.bodies]


def answer(kind: int, purpose: str, subject: str) -> dict[int, bytes]:
    """The attributes of the one answer that there is to `kind`; raises as `entries` does."""
    with Session(NETFILTER) as session:
        (said,) = session.read([Request(kind, NLM_F_REQUEST | NLM_F_ACK, _OF_ALL, purpose)])
    if said.refusal is not None:
        raise said.refusal.error(subject)
    return dict(attributes(said.bodies[0][len(_OF_ALL) :]))


def order(kind: int, purpose: str, subject: str) -> None:
    """Have the order `kind` carried out for all there is; raises as `entries` does."""
    with Session(NETFILTER) as session:
        session.demand([Request(kind, NLM_F_REQUEST | NLM_F_ACK, _OF_ALL, purpose)], subject)
