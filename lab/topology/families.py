"""Which address families everything has: said, or inherited from what it is attached to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.topology.document import Document, Loc
from lab.topology.expand import Declared, Instance
from lab.topology.forms.node import NodeForm
from lab.topology.forms.router import RouterForm
from lab.topology.link import LEAST_MTU6, LinkSpec
from lab.topology.model import INTERNET, Ip

_NAMES = {Ip.V4: "IPv4", Ip.V6: "IPv6"}


def families(
    document: Document,
    instances: list[Instance],
    declared: Declared,
    usual: Ip,
    links: Mapping[Loc, LinkSpec],
) -> dict[str, Ip]:
    """What every router's LAN and every node has, by name; what contradicts itself is reported.

    `usual` is what the file says for everything; the internet itself has
    whatever is asked of it; `links` are those of the declarations.  Routers
    must not lead in a circle.
    """
    routers = {one.name: one for one in instances if one.loc[0] == "routers"}
    known = dict.fromkeys(declared.switches, Ip.LINK_LOCAL)

    def lan(name: str) -> Ip:
        """What the LAN of a router has; what attachments to the internet have unless they say."""
        below = []
        while name in routers and name not in known:
            below.append(name)
            name = routers[name].via
        ip = known.get(name, usual)
        for each in reversed(below):
            form = declared.routers.get(routers[each].declared)
            ip = known[each] = (form.ip if form is not None else None) or ip
        return ip

    checked: set[Loc] = set()
    for one in instances:
        if one.name in routers:
            form: RouterForm | NodeForm = declared.routers[one.declared]
            ip = lan(one.name)
        else:
            form = declared.nodes[one.declared]
            ip = known[one.name] = form.ip or lan(one.via)
        if one.loc not in checked:
            checked.add(one.loc)
            inside = one.via in routers or one.via in declared.switches
            around = lan(one.via) if inside else Ip.DUAL
            _Check(document, one, form, ip, around, links[one.loc].mtu).run()
    return known


@dataclass(frozen=True, slots=True)
class _Check:
    """One declaration, what it has, and what it is attached to has."""

    document: Document
    one: Instance
    form: RouterForm | NodeForm
    ip: Ip
    around: Ip
    mtu: int
    """Of its link."""

    def run(self) -> None:
        if self.around is Ip.LINK_LOCAL and self.ip is not Ip.LINK_LOCAL:
            self._report(
                "ip",
                f"{self.one.name} has ip: {self.ip}, and on the switch {self.one.via} nobody "
                "gives addresses",
                "leave ip out, or attach it to a router",
            )
            return
        if self.ip is Ip.LINK_LOCAL and isinstance(self.form, NodeForm):
            self._link_local(self.form)
        for family, has, offered in (
            (Ip.V4, self.ip.v4, self.around.v4),
            (Ip.V6, self.ip.v6, self.around.v6),
        ):
            if has and not offered:
                whose = self.one.name
                if isinstance(self.form, RouterForm):
                    whose = f"the LAN of {whose}"
                self._report(
                    "ip" if self.form.ip else "",
                    f"{whose} has {_NAMES[family]}, and the LAN of {self.one.via}, where "
                    f"{'it' if whose == self.one.name else 'the router'} is attached, has not",
                    f"write ip: dual at {self.one.via}, or ip: {self.around} here",
                )
        if self.mtu < LEAST_MTU6 and self.ip.v6:
            self._report(
                "link",
                f"the link of {self.one.name} carries IPv6, and its MTU is {self.mtu}",
                f"write mtu: {LEAST_MTU6} or more (RFC 8200, section 5), or ip: 4",
            )
        if isinstance(self.form, RouterForm):
            self._router(self.form)
        elif self.form.address is not None and self.form.address.four and not self.ip.v4:
            self._report(
                "address",
                f"{self.one.name} has the IPv4 address {self.form.address.four}, and no IPv4",
                "leave it out, or write ip: dual",
            )
        if self.form.address is not None and self.form.address.six and not self.ip.v6:
            self._report(
                "address",
                f"{self.one.name} has the IPv6 address {self.form.address.six}, and no IPv6",
                "leave it out, or write ip: dual",
            )

    def _link_local(self, form: NodeForm) -> None:
        name = self.one.name
        if self.one.via == INTERNET:
            self._report(
                "ip",
                f"{name} claims an address of its network, and the internet is none",
                "attach it to a router or a switch, or leave ip out",
            )
        if form.service or form.services:
            self._report(
                "service" if form.service else "services",
                f"{name} is a service, and nobody knows what address it will claim",
                "attach it to a router, or leave the service out: peers find each other by lan",
            )

    def _router(self, form: RouterForm) -> None:
        name = self.one.name
        if form.nptv6 and not self.ip.v6:
            self._report(
                "nptv6",
                f"NPTv6 translates IPv6, and the LAN of {name} has none",
                "write ip: dual or ip: 6, or leave nptv6 out",
            )
        if form.lan is not None and form.lan.six and not self.ip.v6:
            self._report(
                "lan",
                f"the LAN of {name} has no IPv6, so it can't have the prefix {form.lan.six}",
                "leave it out, or write ip: dual",
            )
        if form.nat64:
            self._nat64(name)
        if self.ip.v4:
            return
        if form.lan is not None and form.lan.four:
            self._report(
                "lan",
                f"the LAN of {name} has no IPv4, so it can't have the prefix {form.lan.four}",
                "leave it out, or write ip: dual",
            )
        if form.address is not None and form.address.four and not form.nat64:
            self._report(
                "address",
                f"{name} has the IPv4 address {form.address.four}, and nothing behind it has IPv4",
                "leave it out, or write ip: dual",
            )
        if form.nat is not None and not form.nat64:
            self._report(
                "nat",
                f"nat is about IPv4, and the LAN of {name} has none",
                "leave it out, write ip: dual, or have the IPv6 LAN reach IPv4 by nat64: true",
            )
        if form.port_mapping is not None and form.port_mapping.protocols:
            self._report(
                "port-mapping",
                f"port mapping is about IPv4, and the LAN of {name} has none",
                "leave it out, or write ip: dual",
            )

    def _nat64(self, name: str) -> None:
        if not self.ip.v6:
            self._report(
                "nat64",
                f"NAT64 is for a LAN with IPv6 alone, and the LAN of {name} has IPv4 alone",
                "write ip: 6, or leave nat64 out",
            )
        elif self.ip.v4:
            self._report(
                "nat64",
                f"NAT64 is for a LAN without IPv4, and the LAN of {name} has both",
                "write ip: 6, or leave nat64 out",
            )
        elif not self.around.v4:
            self._report(
                "nat64",
                f"{name} can't translate to IPv4: the LAN of {self.one.via}, where it is "
                "attached, has none",
                f"leave nat64 out if a router above has it, or write ip: dual at {self.one.via}",
            )

    def _report(self, key: str, message: str, remedy: str) -> None:
        self.document.report((*self.one.loc, key) if key else self.one.loc, message, remedy)
