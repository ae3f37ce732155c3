"""The network of `wild` with IPv6 beside IPv4: routers that translate nothing of it.

    alice 2a00:1::2/64 -- a 2a00:f::a --\\
                                         core -- servers 2a00::2, 2a00::3
    bob   2a00:2::2/64 -- b 2a00:f::b --/
"""

from __future__ import annotations

from pathlib import Path

from tests.kernel.peer.wild import SERVICES, Wild, run

IPV6 = {
    "LAB_STUN": "[2a00::2]:3478,[2a00::3]:3478",
    "LAB_RENDEZVOUS": "[2a00::2]:4000",
    "LAB_RELAY": "[2a00::2]:5349",
}
WALL = """*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
-A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
{extra}
COMMIT
"""
WALLS = {
    "open": "",
    "stateful": "-A FORWARD -i wan -j DROP",
    "blocked": "-A FORWARD -j DROP",
}
OWN = {
    "alice": ("192.168.1.2", "2a00:1::2"),
    "bob": ("192.168.2.2", "2a00:2::2"),
}


class Wild6(Wild):
    """`families` of alice and of bob: "4", "6" or "46"; servers have both."""

    def __init__(self, folder: Path, alice: str = "46", bob: str = "46"):
        self.families = {"alice": alice, "bob": bob, "servers": "46"}
        super().__init__(folder)

    def wall(self, router: str, kind: str) -> None:
        """Replace the IPv6 rules of a router, and forget what it had."""
        rules = WALL.format(extra=WALLS[kind])
        run(f"ip netns exec {self.name(router)} ip6tables-restore", input=rules)

    def services(self, node: str) -> dict[str, str]:
        families = self.families[node]
        lists = {
            name: [SERVICES[name]] * ("4" in families) + [ipv6] * ("6" in families)
            for name, ipv6 in IPV6.items()
        }
        return {**SERVICES, **{name: ",".join(texts) for name, texts in lists.items()}}

    def addresses(self, node: str, ipv4: str) -> str:
        own = (*ipv4.split(","), "2a00::2", "2a00::3") if node == "servers" else OWN[node]
        families = self.families[node]
        return ",".join(a for a in own if ("6" if ":" in a else "4") in families)

    def _build(self) -> None:
        super()._build()
        for node in ("core", "a", "b"):
            run(f"ip netns exec {self.name(node)} sysctl -qw net.ipv6.conf.all.forwarding=1")
        add = "address add {} dev {} nodad"
        for node, interface, address in (
            ("core", "s", "2a00::1/64"),
            ("servers", "eth0", "2a00::2/64"),
            ("servers", "eth0", "2a00::3/64"),
            ("core", "a", "2a00:f:1::1/64"),
            ("a", "wan", "2a00:f:1::2/64"),
            ("a", "lan", "2a00:1::1/64"),
            ("alice", "eth0", "2a00:1::2/64"),
            ("core", "b", "2a00:f:2::1/64"),
            ("b", "wan", "2a00:f:2::2/64"),
            ("b", "lan", "2a00:2::1/64"),
            ("bob", "eth0", "2a00:2::2/64"),
        ):
            self.ip(node, add.format(address, interface))
        for node, prefix, gateway in (
            ("servers", "default", "2a00::1"),
            ("a", "default", "2a00:f:1::1"),
            ("b", "default", "2a00:f:2::1"),
            ("alice", "default", "2a00:1::1"),
            ("bob", "default", "2a00:2::1"),
            ("core", "2a00:1::/64", "2a00:f:1::2"),
            ("core", "2a00:2::/64", "2a00:f:2::2"),
        ):
            self.ip(node, f"-6 route add {prefix} via {gateway}")
        for node in ("alice", "bob"):
            for number, flag in (("4", "-4"), ("6", "-6")):
                if number not in self.families[node]:
                    self.ip(node, f"{flag} address flush dev eth0")
        self.wall("a", "stateful")
        self.wall("b", "stateful")
