"""What `render` gives and `load` takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The whole rule set of one node; an empty text means that nothing of it stands.

    `sysctls` are names below `net` ("netfilter/nf_conntrack_udp_timeout") and
    what to write there, in the node's namespace.
    """

    ip4: str = ""
    """For iptables-restore."""
    ip6: str = ""
    """For ip6tables-restore."""
    nft: str = ""
    """For nft: table `ip lab`."""
    portal: str = ""
    """For nft: table `inet portal`."""
    portmap: str = ""
    """For nft: table `inet upnp`, empty; the port mapping daemon fills it."""
    nptv6: str = ""
    """For nft: table `ip6 nptv6`."""
    sysctls: tuple[tuple[str, str], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether loading it only removes what was there."""
        return self == RuleSet()
