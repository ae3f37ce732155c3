"""One function for each reader of bytes that others send.

Each takes any bytes and returns; an exception that the reader does not
promise, a promise that it does not keep, or an answer larger than what a
reader may give is a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.fuzz import nearby, peers, programs, services, web
from tests.fuzz.common import Target

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        one.__name__.replace("_", "-"): one
        for one in (
            services.stun,
            services.stun_server,
            services.splitter,
            services.relay,
            services.relay_client,
            services.rendezvous,
            services.member,
            services.frames,
            peers.signal,
            peers.terms,
            peers.sealed,
            peers.session_frame,
            peers.volunteer,
            peers.carrier,
            peers.packets,
            peers.ice_candidate,
            web.http,
            web.web_socket,
            web.polling,
            web.polled,
            web.targets,
            nearby.port_mapping,
            nearby.upnp,
            nearby.names,
            nearby.neighbour,
            nearby.arp,
            programs.announced,
            programs.order,
            programs.request,
            programs.captured,
        )
    }
)
