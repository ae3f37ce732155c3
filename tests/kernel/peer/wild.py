"""Two peers behind two NAT routers, made with `ip` and `iptables` alone.

What is tested here is the peer, so its network is made by other means than
lab's own: a fault that both share would be seen by neither.

    alice 192.168.1.2 -- a 45.0.1.2 --\\
                                       core -- servers 45.0.0.2, 45.0.0.3
    bob   192.168.2.2 -- b 45.0.2.2 --/
"""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

from tests.unit.peer.support import Program

SERVICES = {
    "LAB_STUN": "45.0.0.2:3478,45.0.0.3:3478",
    "LAB_RENDEZVOUS": "45.0.0.2:4000",
    "LAB_RELAY": "45.0.0.2:5349",
    "LAB_RELAY_USER": "user",
    "LAB_RELAY_PASSWORD": "password",
}
FILTER = """*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
-A INPUT -i wan -m conntrack --ctstate NEW -j DROP
{extra}
-A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT
-A FORWARD -i wan -j DROP
COMMIT
*nat
{nat}
COMMIT
"""
HOME = "-A POSTROUTING -o wan -j SNAT --to-source {wan}"
RULES = {
    "home": ("", HOME),
    "symmetric": ("", "-A POSTROUTING -o wan -j MASQUERADE --random-fully"),
    "full-cone": ("", HOME + "\n-A PREROUTING -i wan -p udp -j DNAT --to-destination {host}"),
    "blocked": ("-A FORWARD -i lan -p udp -j DROP", HOME),
}
PATIENT = {"timeout_s": 25, "options": {"window_s": 20.0}}
"""For attempts that are to succeed, however late a program gets its processor."""
PAUSE_S = 0.05
"""A pause of the machine by which a program may miss what it waits for half a second for."""


def run(command: str, **more: object) -> str:
    """Run one command, words separated by spaces; its output."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Wild:
    """The network of this module's picture; `nat` sets a router's behaviour."""

    def __init__(self, folder: Path):
        self.prefix = f"t-peer-{secrets.token_hex(3)}"
        self.programs: list[Program] = []
        try:
            self._build()
            self._start(folder, "servers", "stun,rendezvous,relay", "45.0.0.2,45.0.0.3")
            self.alice = self._start(folder, "alice", "peer", "192.168.1.2")
            self.bob = self._start(folder, "bob", "peer", "192.168.2.2")
        except BaseException:
            self.close()
            raise

    def name(self, node: str) -> str:
        return f"{self.prefix}.{node}"

    def ip(self, node: str, command: str) -> str:
        return run(f"ip -n {self.name(node)} {command}")

    def nat(self, router: str, kind: str) -> None:
        """Replace the rules of a router, and forget what it had."""
        number = {"a": 1, "b": 2}[router]
        extra, nat = RULES[kind]
        wan, host = f"45.0.{number}.2", f"192.168.{number}.2"
        rules = FILTER.format(extra=extra, nat=nat.format(wan=wan, host=host))
        run(f"ip netns exec {self.name(router)} iptables-restore", input=rules)

    def dropped(self, router: str) -> int:
        """Packets that the router refused because it had no entry."""
        listing = run(f"ip netns exec {self.name(router)} iptables -nvxL INPUT")
        return sum(int(line.split()[0]) for line in listing.splitlines() if "DROP" in line)

    def close(self) -> None:
        for program in self.programs:
            program.stop()
        for line in run("ip netns list").splitlines():
            name = line.split()[0]
            if name.startswith(f"{self.prefix}."):
                run(f"ip netns delete {name}")

    def services(self, node: str) -> dict[str, str]:
        """What the program in `node` is told of the services."""
        return SERVICES

    def addresses(self, node: str, ipv4: str) -> str:
        """The own addresses of `node`, where `ipv4` are those that all networks have."""
        return ipv4

    def _start(self, folder: Path, node: str, role: str, addresses: str) -> Program:
        prefix = ("ip", "netns", "exec", self.name(node))
        own, services = self.addresses(node, addresses), self.services(node)
        program = Program(folder, node, role, own, prefix=prefix, **services)
        self.programs.append(program)
        return program

    def _build(self) -> None:
        for node in ("core", "servers", "a", "b", "alice", "bob"):
            run(f"ip netns add {self.name(node)}")
            self.ip(node, "link set dev lo up")
            # A router whose link-local addresses are still being checked asks for no neighbour.
            no_checks = "net.ipv6.conf.default.dad_transmits=0"
            run(f"ip netns exec {self.name(node)} sysctl -qw {no_checks}")
        self._wire(
            "servers",
            "eth0",
            ("45.0.0.2/24", "45.0.0.3/24"),
            up="core",
            port="s",
            gate="45.0.0.1/24",
        )
        self._wire("a", "wan", ("45.0.1.2/24",), up="core", port="a", gate="45.0.1.1/24")
        self._wire("b", "wan", ("45.0.2.2/24",), up="core", port="b", gate="45.0.2.1/24")
        self._wire("alice", "eth0", ("192.168.1.2/24",), up="a", port="lan", gate="192.168.1.1/24")
        self._wire("bob", "eth0", ("192.168.2.2/24",), up="b", port="lan", gate="192.168.2.1/24")
        for node in ("core", "a", "b"):
            run(f"ip netns exec {self.name(node)} sysctl -qw net.ipv4.ip_forward=1")
        self.nat("a", "home")
        self.nat("b", "home")

    def _wire(
        self,
        node: str,
        interface: str,
        addresses: tuple[str, ...],
        *,
        up: str,
        port: str,
        gate: str,
    ) -> None:
        here, there = self.name(node), self.name(up)
        run(f"ip link add {interface} netns {here} type veth peer name {port} netns {there}")
        for address in addresses:
            self.ip(node, f"address add {address} dev {interface}")
        self.ip(up, f"address add {gate} dev {port}")
        self.ip(node, f"link set dev {interface} up")
        self.ip(up, f"link set dev {port} up")
        self.ip(node, f"route add default via {gate.removesuffix('/24')}")
