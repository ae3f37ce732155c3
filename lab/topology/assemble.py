"""Routers, nodes and expectations as a topology has them, of forms that are understood."""

from __future__ import annotations

from pathlib import Path

from lab.topology.addresses import Written
from lab.topology.behaviour import Dependence, Hairpin, Nat
from lab.topology.document import Document
from lab.topology.expand import Instance
from lab.topology.forms.file import ExpectForm
from lab.topology.forms.node import NodeForm
from lab.topology.forms.router import RouterForm
from lab.topology.hostfiles import command_from, mount_from
from lab.topology.model import (
    Expectation,
    Ip,
    NodeSpec,
    RouterSpec,
)
from lab.topology.resolve import Resolved

NAT64 = Nat(filtering=Dependence.ADDRESS_DEPENDENT, hairpin=Hairpin.EXTERNAL_SOURCE)
"""Of a NAT64 that says nothing: as in RFC 6146 where filtering is wanted (sections 3.5, 3.8)."""


def router_spec(
    one: Instance, form: RouterForm, resolved: Resolved, ip: Ip, where: str
) -> RouterSpec:
    """One router as a topology has it."""
    lan, address = form.lan or Written(), form.address or Written()
    return RouterSpec(
        name=one.name,
        via=one.via,
        ip=ip,
        nat=resolved.nats[one.declared] or (NAT64 if form.nat64 else None),
        nptv6=form.nptv6,
        nat64=form.nat64 or "",
        port_mapping=resolved.port_mappings[one.declared],
        firewall=resolved.firewalls[one.loc],
        link=resolved.links[one.loc],
        region=form.region or "",
        lan=lan.four,
        lan6=lan.six,
        address=address.four,
        address6=address.six,
        where=where,
    )


def node_spec(
    one: Instance, form: NodeForm, resolved: Resolved, ip: Ip, document: Document
) -> NodeSpec:
    """One node as a topology has it; what it names of files is absolute."""
    folder = Path(document.source).parent
    services = form.services or form.service or {}
    address = form.address or Written()
    command = form.command or ()
    return NodeSpec(
        name=one.name,
        via=one.via,
        ip=ip,
        link=resolved.links[one.loc],
        region=form.region or "",
        firewall=resolved.firewalls[one.loc],
        address=address.four,
        address6=address.six,
        services=tuple(services),
        service_ports=tuple((service, port) for service, port in services.items() if port),
        peer=form.peer,
        image=form.image or "",
        command=tuple(command) if form.image else command_from(folder, command),
        env=tuple(sorted((form.env or {}).items())),
        mounts=tuple(mount_from(folder, mount) for mount in form.mounts or ()),
        memory_bytes=form.memory or 0,
        cpus=form.cpus or 0.0,
        ready_signal=form.ready == "signal",
        where=document.where(one.loc),
    )


def expectation(form: ExpectForm) -> Expectation:
    """What connecting two peers must find."""
    written = form.model_dump(by_alias=True, exclude_none=True, exclude={"from_", "to"})
    return Expectation(local=form.from_, remote=form.to, outcomes=tuple(written.items()))
