"""Port mapping protocols: the daemon that answers hosts' requests for external ports.

It is the real miniupnpd, in the build that speaks nftables.  Its table, which
stands before the NAT's own, is part of the router's rule set
(`lab/fabric/rules/templates/portmap.nft.j2`): so mappings outlast a change of
the NAT, and end with the daemon.
"""

from __future__ import annotations

from uuid import UUID

from lab import seeds
from lab.plan.model import Daemon
from lab.plan.names import LAN, WAN
from lab.topology.behaviour import PortMapping
from lab.topology.model import RouterSpec

DAEMON = "miniupnpd"
PACKAGE = "miniupnpd-nftables"
SSDP_PORT = 1900
"""UPnP Device Architecture 2.0, section 1."""
HTTP_PORT = 5000
"""Of the description and of SOAP; SSDP tells it to hosts."""
PCP_PORT = 5351
"""RFC 6887, section 19.1; also NAT-PMP's."""

_CONFIGURATION = """\
ext_ifname={wan}
listening_ip={lan}
enable_upnp={upnp}
http_port={http}
enable_natpmp={pcp}
min_lifetime={shortest}
max_lifetime={longest}
# A host asks for itself only.
secure_mode=yes
ipv6_disable=yes
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_nat_chain=asked_in
upnp_nat_postrouting_chain=asked_out
upnp_forward_chain=asked_forward
uuid={uuid}
friendly_name={router}
system_uptime=no
"""


def daemons_of(spec: RouterSpec, seed: int) -> tuple[Daemon, ...]:
    """The daemon of the router, if it has a NAT and answers any such protocol."""
    mapping = spec.port_mapping
    if mapping is None or spec.nat is None:
        return ()
    return (_miniupnpd(spec.name, mapping, seed),)


def _miniupnpd(router: str, mapping: PortMapping, seed: int) -> Daemon:
    # The last digits tell the devices apart that one router is to UPnP.
    number = seeds.derive(seed, "upnp", router) << 64 | 1
    text = _CONFIGURATION.format(
        wan=WAN,
        lan=LAN,
        upnp=_switch(mapping.upnp),
        http=HTTP_PORT,
        pcp=_switch(mapping.pcp),
        shortest=mapping.min_lifetime_s,
        longest=mapping.max_lifetime_s,
        uuid=UUID(int=number, version=4),
        router=router,
    )
    ready = (f"tcp/{HTTP_PORT}", f"udp/{SSDP_PORT}") if mapping.upnp else ()
    return Daemon(
        name=DAEMON,
        # -d keeps it in the foreground.
        command=("miniupnpd", "-d", "-f", "{dir}/miniupnpd.conf", "-P", "{dir}/miniupnpd.pid"),
        package=PACKAGE,
        files=(("miniupnpd.conf", text),),
        ready=(*ready, f"udp/{PCP_PORT}") if mapping.pcp else ready,
    )


def _switch(on: bool) -> str:
    return "yes" if on else "no"
