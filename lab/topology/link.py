"""An access link as a file has it, and what may carry it."""

from __future__ import annotations

from enum import StrEnum

from lab.topology.behaviour import Frozen
from lab.topology.character import Impairment

LEAST_MTU6 = 1280
"""What IPv6 needs (RFC 8200, section 5): below, an interface has none."""


class WantedBackend(StrEnum):
    """Which link backend a file asks for."""

    AUTO = "auto"
    KERNEL = "kernel"
    FERRY = "ferry"


class LinkSpec(Frozen, frozen=True):
    """The access link of a router or node: `up` leaves it, `down` comes to it."""

    up: Impairment = Impairment()
    down: Impairment = Impairment()
    mtu: int = 1500
    backend: WantedBackend = WantedBackend.AUTO
    preset: str = ""
