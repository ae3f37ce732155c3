"""The environment of docs/contract.md, parsed once."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.peer.endpoint import Endpoint, parse_list
from lab.peer.families import Embedding, mapped
from lab.peer.rendezvous.frames import valid_name
from lab.peer.volunteer.election import Terms, TermsError
from lab.peer.web.connection import proxy_endpoint

ROLES = ("peer", "stun", "rendezvous", "relay", "web-relay")
STUN_PORT = 3478
RENDEZVOUS_PORT = 4000


class SettingsError(ValueError):
    """The environment is not what the contract says; the text says which variable."""


class UnsupportedRoleError(SettingsError):
    """A role that this program does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this program is told about itself and its lab."""

    lab: str
    node: str
    seed: int
    roles: tuple[str, ...]
    folder: Path
    addresses: tuple[str, ...]
    stun: tuple[Endpoint, ...] = ()
    """In each family the primary endpoint, then the other one (RFC 5780)."""
    rendezvous: tuple[Endpoint, ...] = ()
    relays: tuple[Endpoint, ...] = ()
    """The endpoints of one relay."""
    relays_by_tls: tuple[Endpoint, ...] = ()
    """Where the relay speaks TLS, if it does."""
    relay_pin: str = ""
    """SHA-256 of its certificate, in hexadecimal."""
    web_relays: tuple[Endpoint, ...] = ()
    """The endpoints of one web relay."""
    proxy: Endpoint | None = None
    """The web proxy of this network."""
    relay_user: str = ""
    relay_password: str = ""
    volunteer: Terms | None = None
    """From what on this peer is a relay for others; None if it would be none."""
    nat64: Embedding | None = None
    """The way to IPv4 for a node that has none."""
    lan_name: str = ""
    """What it would be called on its own network; "" for the node's name."""

    @property
    def bind(self) -> str:
        """The address that the peer's own sockets are bound to.

        With one address there is nothing to choose, and naming it keeps peers
        apart that share a host, as on a loopback interface.  Otherwise it is
        "" for any of IPv4, "::" for any of IPv6 or of both families.
        """
        if len(self.addresses) == 1:
            return self.addresses[0]
        return "::" if 6 in self.families else ""

    @property
    def relay(self) -> Endpoint | None:
        """The relay's first endpoint that can be sent to; None without a relay."""
        return next(iter(self.reachable(self.relays) or self.relays), None)

    @property
    def families(self) -> frozenset[int]:
        """The address families that the node has itself."""
        return frozenset(6 if ":" in address else 4 for address in self.addresses)

    @property
    def ipv4(self) -> Embedding | None:
        """How IPv4 is sent to on the peer's own UDP sockets; None if as it is, or not at all."""
        if self.families == {4, 6}:
            return mapped()
        return self.nat64 if self.families == {6} else None

    @property
    def lan_addresses(self) -> tuple[str, ...]:
        """The addresses by which the peer is on its own network: one of each family, IPv4 first."""
        firsts = (
            next((address for address in self.addresses if (":" in address) == six), "")
            for six in (False, True)
        )
        return tuple(filter(None, firsts))

    def source(self, server: Endpoint) -> str:
        """The address from which to connect to `server`; "" for any."""
        family = 6 if self.families == {6} else server.family
        own = [a for a in self.addresses if (":" in a) == (family == 6)]
        return own[0] if len(own) == 1 else ""

    def reaches(self, family: int) -> bool:
        """Whether packets can be sent to addresses of that family at all."""
        if not self.families or family in self.families:
            return True
        return family == 4 and self.nat64 is not None

    def reachable(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Those of `endpoints` that are in a family which can be sent to.

        This host's own loopback addresses are nobody else's: a peer that names
        them would have this one knock at its own doors.
        """
        outside = any(not ipaddress.ip_address(own).is_loopback for own in self.addresses)
        return tuple(
            endpoint
            for endpoint in endpoints
            if self.reaches(endpoint.family)
            and not (outside and ipaddress.ip_address(endpoint.address).is_loopback)
        )

    @property
    def stun_servers(self) -> tuple[Endpoint, ...]:
        """The primary STUN endpoint of each family that can be sent to."""
        return _nth(self.reachable(self.stun), 0)

    @property
    def other_stun_servers(self) -> tuple[Endpoint, ...]:
        """The second STUN endpoint of each family that can be sent to."""
        return _nth(self.reachable(self.stun), 1)


def _nth(endpoints: tuple[Endpoint, ...], place: int) -> tuple[Endpoint, ...]:
    """The one at `place` among those of its family."""
    found = []
    for family in (4, 6):
        of_family = [endpoint for endpoint in endpoints if endpoint.family == family]
        found += of_family[place : place + 1]
    return tuple(found)


def from_environment(env: Mapping[str, str]) -> Settings:
    """The settings in `env`; SettingsError names the variable that is wrong."""
    node = env.get("LAB_NODE", "")
    if not valid_name(node):
        raise SettingsError(f"LAB_NODE is no name of a node: {node[:80]!r}")
    roles = tuple(filter(None, env.get("LAB_ROLE", "").split(",")))
    for role in roles:
        if role not in ROLES:
            raise UnsupportedRoleError(f"LAB_ROLE: there is no role {role!r}, only {ROLES}")
    if not roles:
        raise SettingsError(f"LAB_ROLE is empty: one or more of {', '.join(ROLES)} are needed")
    try:
        seed = int(env.get("LAB_SEED", "0"))
    except ValueError:
        raise SettingsError(f"LAB_SEED is no number: {env['LAB_SEED'][:80]!r}") from None
    return Settings(
        lab=env.get("LAB_NAME", ""),
        node=node,
        seed=seed,
        roles=roles,
        folder=Path(env.get("LAB_DIR", "/lab")),
        addresses=_addresses(env),
        stun=_endpoints(env, "LAB_STUN"),
        rendezvous=_endpoints(env, "LAB_RENDEZVOUS"),
        relays=_endpoints(env, "LAB_RELAY"),
        relays_by_tls=_endpoints(env, "LAB_RELAY_TLS"),
        relay_pin=env.get("LAB_RELAY_PIN", ""),
        web_relays=_endpoints(env, "LAB_WEB_RELAY"),
        proxy=_proxy(env),
        relay_user=env.get("LAB_RELAY_USER", ""),
        relay_password=env.get("LAB_RELAY_PASSWORD", ""),
        volunteer=_volunteer(env),
        nat64=_nat64(env),
        lan_name=_lan_name(env),
    )


def _lan_name(env: Mapping[str, str]) -> str:
    text = env.get("LAN_NAME", "")
    if text and not (valid_name(text) and "." not in text):
        raise SettingsError(f"LAN_NAME is no name of a host: {text[:80]!r}")
    return text.lower()


def _addresses(env: Mapping[str, str]) -> tuple[str, ...]:
    text = env.get("LAB_ADDRESSES", "")
    try:
        found = [str(ipaddress.ip_address(part.strip())) for part in text.split(",") if part]
    except ValueError as error:
        raise SettingsError(f"LAB_ADDRESSES: {error}") from None
    return tuple(found)


def _proxy(env: Mapping[str, str]) -> Endpoint | None:
    try:
        return proxy_endpoint(env.get("LAB_PROXY", ""))
    except ValueError as error:
        raise SettingsError(f"LAB_PROXY: {error}") from None


def _endpoints(env: Mapping[str, str], name: str) -> tuple[Endpoint, ...]:
    try:
        return parse_list(env.get(name, ""))
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _volunteer(env: Mapping[str, str]) -> Terms | None:
    text = env.get("VOLUNTEER", "")
    try:
        return Terms.parse(text) if text else None
    except TermsError as error:
        raise SettingsError(f"VOLUNTEER: {error}") from None


def _nat64(env: Mapping[str, str]) -> Embedding | None:
    text = env.get("LAB_NAT64", "")
    try:
        return Embedding(text) if text else None
    except ValueError as error:
        raise SettingsError(f"LAB_NAT64: {error}") from None
