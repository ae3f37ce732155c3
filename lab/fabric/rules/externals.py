"""Which external address a flow gets, in the words of nftables (RFC 4787, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Externals:
    """A NAT's outside addresses, and which one a mapping has."""

    addresses: tuple[str, ...]
    paired: bool
    subscribers: tuple[str, ...]

    @property
    def match(self) -> str:
        """Any of them, as nft writes it."""
        return self.addresses[0] if self.single else f"{{ {', '.join(self.addresses)} }}"

    @property
    def single(self) -> bool:
        """Whether there is one only."""
        return len(self.addresses) == 1

    @property
    def numbered(self) -> tuple[tuple[int, str], ...]:
        """The addresses and their places in the pool."""
        return tuple(enumerate(self.addresses))

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Each known inside host and the place of its address, dealt out in turn."""
        return tuple(
            (host, index % len(self.addresses)) for index, host in enumerate(self.subscribers)
        )

    def hash(self, port: str) -> str:
        """The place of the address that an external port goes with."""
        return f"jhash {port} mod {len(self.addresses)} seed 1"

    def chosen(self, protocol: str) -> tuple[str, ...]:
        """What follows `snat to`, one rule each; the first that knows the packet decides."""
        if self.single:
            return self.addresses
        if not self.paired:
            places = ", ".join(f"{place} : {address}" for place, address in self.numbered)
            return (f"{self.hash(f'{protocol} sport')} map {{ {places} }}",)
        return (*self.by_host, self.addresses[0])

    @property
    def by_host(self) -> tuple[str, ...]:
        """The address of a known host; nothing if none is known."""
        if not self.hosts:
            return ()
        pairs = ", ".join(f"{host} : {self.addresses[place]}" for host, place in self.hosts)
        return (f"ip saddr map {{ {pairs} }}",)
