"""Whether the NATs, firewalls and links of a running lab are what its plan claims.

Every router is measured by itself: packets are made by hand at the ends of
its two wires (`site`, `wire`, `packets`) and what comes out at the other one
is looked at (`probe`).  `nat`, `sharing`, `lifetimes`, `firewall`, `portmap` and `host` measure
some dimensions, `expect` says what a plan lets one expect of them, `peers`
asks a STUN server from inside the peers' own networks, and `report` is what
all of it amounts to.  `links` measures every link by itself.  What is waited
for is waited for with `patience`, which a pause of the machine does not use up.

`packets6`, `site6` and `ipv6` are the same for IPv6, for prefix translation and
for IPv4 by way of a NAT64; what is measured is measured by the same code.

Nothing here changes the lab, and nothing of a probe is left but mappings that
end like any other.  A lab that changes while it is measured is measured by the
plan that is in force (`current`).  Imports plan, `lab.fabric.netns` and
`.links.model`, and the STUN classifiers of `lab.peer`; knows nothing of the
agent or the command line.
"""

from lab.verify.report import Finding, LinkFinding, PeerFinding, Report
from lab.verify.run import LinkOptions, verify

__all__ = ["Finding", "LinkFinding", "LinkOptions", "PeerFinding", "Report", "verify"]
