"""What the kernel knows of flows, over ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

Needs no conntrack(8), which few machines have.
"""

from __future__ import annotations

import socket
import struct

from lab.fabric.netlink import NETFILTER, NLM_F_ACK, NLM_F_REQUEST, Request, Session

_CT_DELETE = 1 << 8 | 2
"""Subsystem ctnetlink, message IPCTNL_MSG_CT_DELETE."""


def forget() -> None:
    """Delete every entry of the calling thread's namespace, of IPv4 and IPv6.

    The next packet of a flow is then the first of a new one.  Raises LabError
    if the kernel refuses.
    """
    # A delete that names no flow means all of them.
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)
    everything = Request(_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, body, "forgetting all flows")
    with Session(NETFILTER) as session:
        session.demand([everything], "conntrack")
