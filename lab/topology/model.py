"""A topology as a person meant it: checked, presets and counts resolved.

`lab.topology.loader` makes it from a file; `lab.plan.compile` turns it into a
plan.  `where` is the `file:line` of each declaration, for error texts.
"""

from __future__ import annotations

from enum import StrEnum

from lab.topology.behaviour import Firewall, Frozen, Mount, Nat, PortMapping
from lab.topology.changes import Happening
from lab.topology.character import Impairment
from lab.topology.link import LinkSpec as LinkSpec  # noqa: PLC0414 - a part of this model
from lab.topology.link import WantedBackend as WantedBackend  # noqa: PLC0414 - as above

INTERNET = "internet"
"""What `via:` says for a direct attachment to the core."""

CORE_MTU = 9000
"""Between regions: as much as any attachment sends."""


class Ip(StrEnum):
    """Which address families a network has that somebody gives addresses in."""

    V4 = "4"
    V6 = "6"
    DUAL = "dual"
    LINK_LOCAL = "link-local"
    """Nobody does: hosts claim addresses of IPv4 that only their link knows (RFC 3927)."""

    @property
    def v4(self) -> bool:
        """Whether IPv4 is one of them."""
        return self in (Ip.V4, Ip.DUAL)

    @property
    def v6(self) -> bool:
        """Whether IPv6 is one of them."""
        return self in (Ip.V6, Ip.DUAL)


class Regions(Frozen, frozen=True):
    """Parts of the internet, and how far they are from one another."""

    names: tuple[str, ...]
    rtt_us: tuple[tuple[int, ...], ...]
    """Round trips in microseconds, symmetric; the diagonal is between attachments of a region."""
    source: str = ""

    def access_us(self, region: str) -> int:
        """The one-way delay that each attachment in `region` has."""
        at = self.names.index(region)
        return self.rtt_us[at][at] // 4

    def between_us(self, one: str, other: str) -> int:
        """The one-way delay between two regions, without that of the attachments."""
        whole = self.rtt_us[self.names.index(one)][self.names.index(other)] // 2
        return whole - self.access_us(one) - self.access_us(other)

    def between(self, one: str, other: str) -> LinkSpec:
        """The link between two regions."""
        way = Impairment(delay_us=self.between_us(one, other))
        return LinkSpec(up=way, down=way, mtu=CORE_MTU)


class InternetSpec(Frozen, frozen=True):
    """The core: `transit` applies once in each direction of every attachment to it.

    A file's `delay` is the one-way delay across the core, so each attachment
    carries half of it.
    """

    transit: Impairment = Impairment()
    regions: Regions | None = None
    """Then `transit` has no delay of its own."""
    where: str = ""


class RouterSpec(Frozen, frozen=True):
    """A router: attached to `via`, with a LAN of its own behind it."""

    name: str
    via: str = INTERNET
    ip: Ip = Ip.V4
    """What its LAN has."""
    nat: Nat | None = None
    """Of IPv4; of a NAT64, how it maps what it translated to IPv4."""
    nptv6: bool = False
    """Its inside has addresses of its own, which are translated one to one (RFC 6296)."""
    nat64: str = ""
    """The prefix behind which its hosts, without IPv4, find IPv4 (RFC 6052); empty for no NAT64."""
    port_mapping: PortMapping | None = None
    firewall: Firewall | None = None
    link: LinkSpec = LinkSpec()
    region: str = ""
    """Where it is attached to the internet, if that has regions."""
    lan: str = ""
    """The LAN's IPv4 prefix; empty to have one assigned."""
    lan6: str = ""
    """The LAN's IPv6 prefix, a /64; empty to have one assigned."""
    address: str = ""
    """The IPv4 WAN address; empty to have one assigned."""
    address6: str = ""
    """The IPv6 WAN address; empty to have one assigned."""
    where: str = ""


class SwitchSpec(Frozen, frozen=True):
    """An Ethernet segment that no router is on: its hosts have what they claim themselves."""

    name: str
    where: str = ""


class NodeSpec(Frozen, frozen=True):
    """A host and the program in it."""

    name: str
    via: str
    ip: Ip = Ip.V4
    link: LinkSpec = LinkSpec()
    region: str = ""
    firewall: Firewall | None = None
    address: str = ""
    """Its IPv4 address; empty to have one assigned."""
    address6: str = ""
    """Its IPv6 address; empty to have one assigned."""
    services: tuple[str, ...] = ()
    """Built-in services: `stun`, `rendezvous`, `relay`."""
    service_ports: tuple[tuple[str, int], ...] = ()
    """Ports of those that don't listen at their usual one."""
    peer: bool = False
    """Runs the built-in peer."""
    image: str = ""
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    memory_bytes: int = 0
    cpus: float = 0.0
    ready_signal: bool = False
    where: str = ""


class Expectation(Frozen, frozen=True):
    """What `lab connect` must find between two peers, if the file says so."""

    local: str
    remote: str
    outcomes: tuple[tuple[str, str], ...]
    """Technique and expected outcome, or `path` and `direct`, `relayed` or `none`.

    An outcome is one of docs/contract.md, or `failure` for any but `success`.
    """


class Topology(Frozen, frozen=True):
    """One file, understood."""

    name: str
    routers: tuple[RouterSpec, ...] = ()
    nodes: tuple[NodeSpec, ...] = ()
    switches: tuple[SwitchSpec, ...] = ()
    internet: InternetSpec = InternetSpec()
    description: str = ""
    seed: int = 1
    expect: tuple[Expectation, ...] = ()
    timeline: tuple[Happening, ...] = ()
    source: str = ""
