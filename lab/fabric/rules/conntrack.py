"""What the kernel knows of flows, over ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

Needs no conntrack(8), which few machines have.
"""

from __future__ import annotations

from lab.fabric.rules import netfilter

_CT_DELETE = 1 << 8 | 2
"""Subsystem ctnetlink, message IPCTNL_MSG_CT_DELETE."""


def forget() -> None:
    """Delete every entry of the calling thread's namespace, of IPv4 and IPv6.

    The next packet of a flow is then the first of a new one.  Raises LabError
    if the kernel refuses.
    """
    # A delete that names no flow means all of them.
    netfilter.order(_CT_DELETE, "forgetting all flows", "conntrack")
