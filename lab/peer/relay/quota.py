"""How much of a relay one user, one address and one allocation may take."""

from __future__ import annotations

from collections import Counter

from lab.peer.endpoint import Endpoint
from lab.peer.limits import Buckets, party
from lab.peer.relay.allocation import Client, Limits


class Quota:
    """What is taken of `limits`, by whom."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of_user: Counter[str] = Counter()
        self._of_address: Counter[str] = Counter()
        octets = limits.octets_per_s
        self._traffic = Buckets(octets, octets, limits.allocations)
        self._refusals = Buckets(limits.refusals_per_s, 2 * limits.refusals_per_s)

    def exhausted(self, user: str, client: Client) -> bool:
        """Whether the user, or the client's address, has all the allocations that it may have."""
        address = party(client.endpoint.address)
        return (
            self._of_user[user] >= self._limits.per_user
            or self._of_address[address] >= self._limits.per_address
        )

    def take(self, user: str, client: Client) -> None:
        """Count one allocation more; `give_back` has to follow."""
        self._of_user[user] += 1
        self._of_address[party(client.endpoint.address)] += 1

    def give_back(self, user: str, client: Client) -> None:
        """Count one allocation less."""
        for counter, key in (
            (self._of_user, user),
            (self._of_address, party(client.endpoint.address)),
        ):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def carries(self, relayed: Endpoint, data: bytes, now: float) -> bool:
        """Whether the allocation may have these bytes relayed now; else they are lost."""
        return self._traffic.take(relayed, now, len(data))

    def refuses(self, client: Client, now: float) -> bool:
        """Whether the client is told that its request is refused.

        A refusal is longer than its request, and over UDP whose it is may be forged.
        """
        key = party(client.endpoint.address)
        return client.transport != "udp" or self._refusals.take(key, now)
