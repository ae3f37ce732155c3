"""Whether the NATs and firewalls of a running lab are what its plan claims.

Every router is measured by itself: packets are made by hand at the ends of
its two wires (`site`, `wire`, `packets`) and what comes out at the other one
is looked at (`probe`).  `nat`, `sharing`, `lifetimes`, `firewall`, `portmap` and `host` measure
some dimensions, `expect` says what a plan lets one expect of them, `peers`
asks a STUN server from inside the peers' own networks, and `report` is what
all of it amounts to.

`packets6`, `site6` and `ipv6` are the same for IPv6, for prefix translation and
for IPv4 by way of a NAT64; what is measured is measured by the same code.

Nothing here changes the lab, and nothing of a probe is left but mappings that
end like any other.  Imports plan, `lab.fabric.netns` and the STUN classifiers
of `lab.peer`; knows nothing of the agent or the command line.
"""

from lab.verify.report import Finding, PeerFinding, Report
from lab.verify.run import verify

__all__ = ["Finding", "PeerFinding", "Report", "verify"]
