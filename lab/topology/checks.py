"""What must hold between the parts of a topology: circles, addresses, programs, expectations."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping

from lab.topology.addresses import Written
from lab.topology.behaviour import Nat, PortPolicy
from lab.topology.document import Document, Loc
from lab.topology.expand import Declared, Instance
from lab.topology.forms.file import ExpectForm
from lab.topology.forms.link import InternetForm
from lab.topology.forms.node import NodeForm
from lab.topology.model import INTERNET, Regions
from lab.topology.problems import one_of, show


def check_circles(document: Document, instances: list[Instance]) -> bool:
    """Report routers that lead in a circle; False if there are any."""
    upstream = {one.name: one for one in instances if one.loc[0] == "routers"}
    order = {name: index for index, name in enumerate(upstream)}
    good: set[str] = {INTERNET}
    reported: set[Loc] = set()
    for start in upstream:
        path: dict[str, None] = {}
        here = start
        while here in upstream and here not in good and here not in path:
            path[here] = None
            here = upstream[here].via
        if here in path:
            names = list(path)
            circle = names[names.index(here) :]
            first = min(circle, key=order.__getitem__)
            turn = circle.index(first)
            shown = [*circle[turn:], *circle[:turn], first]
            if len(shown) > 12:
                shown = [*shown[:6], "...", *shown[-5:]]
            if upstream[first].loc not in reported:
                reported.add(upstream[first].loc)
                document.report(
                    (*upstream[first].loc, "via"),
                    f"routers lead in a circle: {' -> '.join(shown)}",
                    "attach one of them to the internet: via: internet",
                )
        good |= path.keys()
    return not reported


def check_addresses(document: Document, declared: Declared) -> None:
    """Report addresses outside their LAN, and addresses and LANs that clash."""
    taken: dict[tuple[str, str], Loc] = {}
    for loc, name, form in declared.forms():
        router = declared.routers.get(form.via)
        lan = (router.lan if router is not None else None) or Written()
        if form.address is None or form.count is not None:
            continue
        at = (*loc, "address")
        for address, prefix in ((form.address.four, lan.four), (form.address.six, lan.six)):
            if address and prefix:
                _check_inside(document, at, address, form.via, prefix)
            first = taken.setdefault((form.via, address), at) if address else at
            if first != at:
                document.report(
                    at,
                    f"{name} and {first[1]} both have the address {address}",
                    f"the other stands at {document.where(first)}: change one, or leave it out",
                )
    for name, inner in declared.routers.items():
        outer = declared.routers.get(inner.via)
        mine, above = inner.lan or Written(), (outer.lan if outer else None) or Written()
        for prefix, other in ((mine.four, above.four), (mine.six, above.six)):
            if prefix and other and _overlap(prefix, other):
                document.report(
                    ("routers", name, "lan"),
                    f"the LAN {prefix} of {name} overlaps {other} of {inner.via}, on its other "
                    "side",
                    "give one of them another prefix: a router can't tell the two sides apart",
                )


def check_regions(
    document: Document, form: InternetForm | None, declared: Declared, regions: Regions | None
) -> None:
    """Report what is attached to no region of an internet that has some, and the reverse."""
    if regions is not None and form is not None and form.delay is not None:
        document.report(
            ("internet", "delay"),
            "the internet has a delay, and regions that say how far it is",
            "leave delay out",
        )
    for loc, name, one in declared.forms():
        at = (*loc, "region") if one.region else loc
        if one.via == INTERNET and regions is not None:
            if one.region not in regions.names:
                what = f"in {show(one.region)}, which is no" if one.region else "in no"
                document.report(
                    at,
                    f"{name} is {what} region of the internet",
                    one_of(one.region or "", regions.names, "regions"),
                )
        elif one.region is not None:
            why = "write internet: {regions: world}, or leave region out"
            if one.via != INTERNET:
                why = f"it is where {one.via} is: leave region out"
            document.report(at, f"{name} has a region, and is not attached to one", why)


def check_capacity(
    document: Document, instances: list[Instance], declared: Declared, nats: Mapping[str, Nat]
) -> None:
    """Report LANs with too few addresses and NATs with too few blocks of ports."""
    behind = Counter(one.via for one in instances)
    reported: set[str] = set()
    for one in instances:
        router = declared.routers.get(one.declared) if one.loc[0] == "routers" else None
        if router is None or one.declared in reported:
            continue
        members = behind[one.name]
        if router.lan is not None and router.lan.four:
            # Network, broadcast and the router itself take one each.
            room = ipaddress.IPv4Network(router.lan.four).num_addresses - 3
            if members > room:
                document.report(
                    (*one.loc, "lan"),
                    f"{members} behind {one.name}, and {router.lan.four} has room for {room}",
                    "use a shorter prefix",
                )
                reported.add(one.declared)
        nat = nats.get(one.declared)
        wrong = too_few_blocks(one.name, members, nat) if nat is not None else None
        if wrong is not None:
            document.report((*one.loc, "nat"), *wrong)
            reported.add(one.declared)


def too_few_blocks(router: str, members: int, nat: Nat) -> tuple[str, str] | None:
    """What is wrong, and the remedy, if `nat` has no block of ports for each of `members`."""
    if nat.ports.policy is not PortPolicy.BLOCK:
        return None
    ports = nat.ports.last - nat.ports.first + 1
    blocks, size = ports // nat.ports.block, ports // max(members, 1)
    if members <= blocks:
        return None
    return (
        f"{members} behind {router}, and its ports make {blocks} blocks of {nat.ports.block}",
        f"write nat: {{preset: {nat.preset.partition(',')[0] or 'cgnat'}, "
        f"ports: {{policy: block, block: {size}}}}}"
        if size
        else "spread them over several routers",
    )


def check_program(document: Document, name: str, node: NodeForm) -> None:
    """Report a node whose program is two things at once."""
    loc = ("nodes", name)
    if node.service is not None and node.services is not None:
        document.report(
            (*loc, "services"), f"{name} has both service and services", "keep one of the two"
        )
    services = node.services or node.service or {}
    ports = [port for port in services.values() if port]
    if len(ports) != len(set(ports)):
        document.report(
            (*loc, "services" if node.services else "service"),
            f"{name} has two services at one port",
            "give each a port of its own",
        )
    own = next((key for key in ("image", "command") if getattr(node, key) is not None), None)
    if own and (node.peer or node.service or node.services):
        builtin = "the built-in peer" if node.peer else "a built-in service"
        document.report(
            (*loc, own),
            f"{name} has {builtin} and {'an image' if own == 'image' else 'a command'} of its own",
            f"leave out {'peer' if node.peer else 'service'} or {own}: a node runs one of them",
        )


def check_expectation(
    document: Document, index: int, form: ExpectForm, peers: Mapping[str, bool]
) -> None:
    """Report an expectation about nodes that are not there or are no peers."""
    for key, name in (("from", form.from_), ("to", form.to)):
        at = ("expect", index, key)
        if name not in peers:
            document.report(
                at,
                f"there is no node {show(name)} to expect anything of",
                one_of(name, [one for one, peer in peers.items() if peer], "peers"),
            )
        elif not peers[name]:
            document.report(
                at, f"{show(name)} does not run the built-in peer", "give it peer: true"
            )
    if form.from_ == form.to:
        document.report(
            ("expect", index, "to"),
            f"{show(form.to)} can't connect to itself",
            "name two different peers",
        )


def _overlap(one: str, other: str) -> bool:
    """Whether two prefixes of one family do."""
    if ":" in one:
        return ipaddress.IPv6Network(one).overlaps(ipaddress.IPv6Network(other))
    return ipaddress.IPv4Network(one).overlaps(ipaddress.IPv4Network(other))


def _check_inside(document: Document, at: Loc, address: str, via: str, lan: str) -> None:
    prefix = ipaddress.ip_network(lan)
    parsed = ipaddress.ip_address(address)
    # IPv6 has no broadcasts; its first address is any router's, the second that of this one.
    first, last = (prefix[2], prefix[-1 if prefix.version == 6 else -2])
    if parsed not in prefix:
        document.report(
            at,
            f"{address} is outside the LAN of {via}, which is {lan}",
            f"use {first} to {last}, or leave it out to have one assigned",
        )
    elif prefix.version == 6 and parsed in (prefix[0], prefix[1]):
        document.report(
            at,
            f"{address} can't be a host's: it is that of {via} in its LAN {lan}",
            f"use {first} to {last}",
        )
    elif prefix.version == 4 and parsed in (prefix[0], prefix[-1]):
        document.report(
            at,
            f"{address} can't be a host's: it is the first or the last address of {lan}",
            f"use {first} to {last}",
        )
