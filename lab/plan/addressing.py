"""Which addresses everything gets; those of IPv6 are in `delegation`.

What a file says is respected, what a running lab has is kept, and the rest is
assigned in the order of declaration: the router first, then its members.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from lab.errors import InputError
from lab.plan.delegation import Addresses6, assign6
from lab.plan.history import History
from lab.plan.ipv4 import Prefix, address_text
from lab.plan.subnets import Subnet, choose, written_address
from lab.plan.tree import Attached, Tree, addresses_needed


@dataclass(frozen=True, slots=True)
class Uplink:
    """The outward side of a host or router."""

    addresses: tuple[int, ...]
    length: int
    gateway: int

    @property
    def interface_addresses(self) -> tuple[str, ...]:
        """As an interface has them, with prefix length."""
        return tuple(f"{address_text(number)}/{self.length}" for number in self.addresses)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Every address of a plan."""

    uplinks: dict[str, Uplink]
    """By attached node."""
    lans: dict[str, Prefix]
    """By router."""
    gateways: dict[str, int]
    """A router's own address in its LAN."""
    six: Addresses6 = field(default_factory=Addresses6)


def assign(tree: Tree, history: History, seed: int) -> Addresses:
    """Addresses for everything in `tree`; `seed` is that of the topology.

    Raises InputError where the file asks for what cannot be: two claims to
    one address, overlapping prefixes in one realm, a LAN that is too small.
    """
    addresses = Addresses({}, {}, {}, assign6(tree, history, seed))
    for subnet, prefix in choose(tree, history):
        gateway, given = _fill(subnet, prefix, history)
        for name, numbers in given.items():
            addresses.uplinks[name] = Uplink(numbers, prefix.length, gateway)
        if subnet.router:
            addresses.lans[subnet.router.name] = prefix
            addresses.gateways[subnet.router.name] = gateway
    return addresses


def _fill(
    subnet: Subnet, prefix: Prefix, history: History
) -> tuple[int, dict[str, tuple[int, ...]]]:
    """The gateway's address in `prefix`, and the addresses of each member by name."""
    owners: dict[int, str] = {}
    given: dict[str, list[int]] = {}
    for spec in subnet.members:
        given[spec.name] = []
        if number := written_address(spec):
            _check(spec, number, subnet, prefix, owners)
            owners[number] = spec.name
            given[spec.name].append(number)

    for spec in subnet.members:
        settled = history.uplinks.get(spec.name)
        if settled and settled.upstream == subnet.upstream:
            already = len(given[spec.name])
            for number in settled.addresses[already : addresses_needed(spec)]:
                if prefix.usable(number) and number not in owners:
                    owners[number] = spec.name
                    given[spec.name].append(number)

    # Neighbours still hold the MAC address of one that leaves in the same
    # apply, so its address is given away last.
    former = history.members.get(subnet.upstream, ())
    usable = range(prefix.first + 1, prefix.last)
    ordered = chain((n for n in usable if n not in former), (n for n in usable if n in former))
    free = (number for number in ordered if number not in owners)

    gateway = _kept_gateway(subnet, prefix, history)
    if not gateway or gateway in owners:
        gateway = next(free)
    owners[gateway] = ""
    for spec in subnet.members:
        while len(given[spec.name]) < addresses_needed(spec):
            number = next(free)
            owners[number] = spec.name
            given[spec.name].append(number)
    return gateway, {name: tuple(numbers) for name, numbers in given.items()}


def _check(
    spec: Attached, number: int, subnet: Subnet, prefix: Prefix, owners: dict[int, str]
) -> None:
    if not prefix.usable(number):
        raise InputError(
            f"{spec.name} has the address {spec.address}, but {subnet} is {prefix}",
            remedy=(
                f"Choose one between {address_text(prefix.first + 1)} and "
                f"{address_text(prefix.last - 1)}, or leave it out to have one assigned."
            ),
            where=spec.where,
        )
    if number in owners:
        raise InputError(
            f"{spec.name} has the address {spec.address}, and so has {owners[number]}",
            remedy="Choose another one, or leave it out to have one assigned.",
            where=spec.where,
        )


def _kept_gateway(subnet: Subnet, prefix: Prefix, history: History) -> int:
    if subnet.router:
        settled = history.lans.get(subnet.router.name)
    else:
        settled = history.uplinks.get(subnet.members[0].name)
    if settled and settled.upstream == subnet.upstream and prefix.usable(settled.gateway):
        return settled.gateway
    return 0
