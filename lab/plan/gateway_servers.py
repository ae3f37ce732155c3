"""The servers that a router runs for who is inside: real programs, and what they are told."""

from __future__ import annotations

from lab.plan.model import Daemon
from lab.topology.behaviour import Proxy

RESOLVER, PROXY, PORTAL, DNS64 = "resolver", "proxy", "portal", "dns64"
ALL = frozenset({RESOLVER, PROXY, PORTAL, DNS64})
LOOPBACK = "127.0.0.1"
DNS_PORT = 53
NAMES_PORT = 5353
"""Where the resolver is, behind the one that does DNS64."""

_RESOLVER_CONFIGURATION = """\
# Answers for the lab's nodes; no other name exists, and nobody else is asked.
no-hosts
addn-hosts={dir}/names
local=/#/
no-resolv
# What a program asked a moment ago may have changed in the lab.
local-ttl=0
bind-interfaces
port=%d
listen-address=%s
user=root
pid-file=
"""

_DNS64_CONFIGURATION = """\
server:
    directory: "{{dir}}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    port: 53
    interface: {loopback}
    interface: {inside}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    # An AAAA record for what has none, made of its A record (RFC 6147).
    module-config: "dns64 iterator"
    dns64-prefix: {prefix}
    do-not-query-localhost: no
    # What a program asked a moment ago may have changed in the lab.
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    # Names that are none elsewhere may be nodes here.
    local-zone: "test." transparent
    local-zone: "invalid." transparent
    local-zone: "onion." transparent
forward-zone:
    name: "."
    forward-addr: {loopback}@{names_port}
"""

_PROXY_CONFIGURATION = """\
# For who is inside; it finds names by the resolver beside it.
Port %d
Listen %s
Timeout 600
MaxClients 500
LogLevel Connect
"""


def resolver(port: int, listen: str, names: str) -> Daemon:
    """A name server that knows `names` (as in hosts(5)) and nothing else."""
    return Daemon(
        name=RESOLVER,
        command=("dnsmasq", "--keep-in-foreground", "--conf-file={dir}/dnsmasq.conf"),
        package="dnsmasq-base",
        files=(
            ("dnsmasq.conf", _RESOLVER_CONFIGURATION % (port, listen)),
            ("names", names),
        ),
        ready=(f"udp/{port}", f"tcp/{port}"),
    )


def dns64(prefix: str, inside: str) -> Daemon:
    """What gives names without an IPv6 address one (RFC 6147), by the resolver beside it."""
    text = _DNS64_CONFIGURATION.format(
        inside=inside, loopback=LOOPBACK, prefix=prefix, names_port=NAMES_PORT
    )
    return Daemon(
        name=DNS64,
        command=("unbound", "-d", "-c", "{dir}/unbound.conf"),
        package="unbound",
        files=(("unbound.conf", text),),
        ready=(f"udp/{DNS_PORT}", f"tcp/{DNS_PORT}"),
    )


def proxy(wanted: Proxy, inside: str, above: str) -> Daemon:
    """A web proxy at the router's address `inside`; it asks the proxy `above`, if there is one."""
    text = _PROXY_CONFIGURATION % (wanted.port, inside)
    # To tinyproxy, no ConnectPort at all means every port.
    text += "".join(f"ConnectPort {port}\n" for port in wanted.connect or (0,))
    if above:
        text += f"Upstream http {above}\n"
    return Daemon(
        name=PROXY,
        command=("tinyproxy", "-d", "-c", "{dir}/tinyproxy.conf"),
        package="tinyproxy-bin",
        files=(
            ("tinyproxy.conf", text),
            ("resolv.conf", f"nameserver {LOOPBACK}\noptions attempts:1 timeout:1\n"),
        ),
        ready=(f"tcp/{wanted.port}",),
    )


def portal(lan: str, inside: str) -> Daemon:
    """The captive portal of who comes in by the interface `lan`, at the router's address there."""
    return Daemon(
        name=PORTAL,
        command=("{python}", "-m", "lab.peer.portal", lan, inside),
        ready=("tcp/80",),
    )
