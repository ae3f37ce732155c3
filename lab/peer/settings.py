"""The environment of docs/contract.md, parsed once."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.peer.endpoint import Endpoint, parse_list
from lab.peer.rendezvous.frames import valid_name

ROLES = ("peer", "stun", "rendezvous", "relay")
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
    rendezvous: Endpoint | None = None
    relay: Endpoint | None = None
    relay_user: str = ""
    relay_password: str = ""

    @property
    def bind(self) -> str:
        """The address that the peer's own sockets are bound to; "" for any.

        With one address there is nothing to choose, and naming it keeps peers
        apart that share a host, as on a loopback interface.
        """
        return self.addresses[0] if len(self.addresses) == 1 else ""


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
        rendezvous=_first(env, "LAB_RENDEZVOUS"),
        relay=_first(env, "LAB_RELAY"),
        relay_user=env.get("LAB_RELAY_USER", ""),
        relay_password=env.get("LAB_RELAY_PASSWORD", ""),
    )


def _addresses(env: Mapping[str, str]) -> tuple[str, ...]:
    text = env.get("LAB_ADDRESSES", "")
    try:
        found = [str(ipaddress.ip_address(part.strip())) for part in text.split(",") if part]
    except ValueError as error:
        raise SettingsError(f"LAB_ADDRESSES: {error}") from None
    return tuple(found)


def _endpoints(env: Mapping[str, str], name: str) -> tuple[Endpoint, ...]:
    try:
        return parse_list(env.get(name, ""))
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _first(env: Mapping[str, str], name: str) -> Endpoint | None:
    found = _endpoints(env, name)
    return found[0] if found else None
