"""Software that lab uses: what is there, and which package has what is not."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import LabError, MissingError
from lab.observe.doctor.check import Check, Level, found_or
from lab.runtime import gate, images
from lab.runtime.docker import Engine


@dataclass(frozen=True, slots=True)
class _Tool:
    program: str
    package: str
    why: str
    absent: Level
    fixable: bool = True
    """Not if the package starts a service on this machine: that is for its owner to decide."""
    group: str = "programs"


_TOOLS = (
    _Tool("iptables-nft-restore", "iptables", "NAT and firewall rules", Level.MISSING),
    _Tool("ip6tables-nft-restore", "iptables", "IPv6 firewall rules", Level.MISSING),
    _Tool("ip", "iproute2", "looking into namespaces by hand", Level.WARNING),
    _Tool("nft", "nftables", "looking at rule sets by hand", Level.WARNING),
    _Tool("conntrack", "conntrack", "looking at a NAT's state by hand", Level.WARNING),
    _Tool("tcpdump", "tcpdump", "capturing packets", Level.WARNING),
    _Tool("miniupnpd", "miniupnpd-nftables", "port mapping: UPnP, NAT-PMP, PCP", Level.WARNING),
    _Tool("dnsmasq", "dnsmasq-base", "firewalls with a resolver or a proxy", Level.WARNING),
    _Tool("tinyproxy", "tinyproxy-bin", "firewalls with a web proxy", Level.WARNING),
    _Tool("tayga", "tayga", "NAT64", Level.WARNING),
    _Tool("unbound", "unbound", "NAT64: the resolver with DNS64", Level.WARNING),
    _Tool("turnserver", "coturn", "a TURN server that is not ours", Level.WARNING, fixable=False),
)

_MMDEBSTRAP = _Tool(
    "mmdebstrap",
    "mmdebstrap",
    "a base image without a registry",
    Level.WARNING,
    group="containers",
)


def checks() -> Iterator[Check]:
    """Programs and libraries, then what containers need."""
    for tool in _TOOLS:
        yield _tool(tool)
    yield _library()
    yield from _containers()


def _tool(tool: _Tool) -> Check:
    # Administrators' programs are not on everybody's PATH.
    path = shutil.which(tool.program) or shutil.which(tool.program, path="/usr/sbin:/sbin")
    note = "" if tool.fixable else " (starts a service, so --fix leaves it to you)"
    return Check(
        group=tool.group,
        name=tool.program,
        level=found_or(tool.absent, bool(path)),
        found=path or "not installed",
        why=tool.why,
        remedy="" if path else f"apt-get install {tool.package}{note}",
        packages=() if path or not tool.fixable else (tool.package,),
    )


def _library() -> Check:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        found = False
    else:
        found = True
    return Check(
        group="programs",
        name="libnftables",
        level=found_or(Level.MISSING, found),
        found="libnftables.so.1" if found else "not installed",
        why="NAT rules that iptables has no words for",
        remedy="" if found else "apt-get install libnftables1",
        packages=() if found else ("libnftables1",),
    )


def _containers() -> Iterator[Check]:
    engine = Engine.connect()
    if engine is None:
        address = os.environ.get("DOCKER_HOST") or "/var/run/docker.sock"
        installed = shutil.which("docker")
        yield Check(
            group="containers",
            name="Docker engine",
            level=Level.WARNING,
            found=f"none answers on {address}",
            why="peers as containers; without it they run as processes",
            remedy="systemctl start docker"
            if installed
            else "apt-get install docker.io (starts a service, so --fix leaves it to you)",
        )
    else:
        with engine:
            version = engine.client.version().get("Version", "?")
            yield Check(
                group="containers",
                name="Docker engine",
                found=f"answers, version {version}",
                why="peers as containers",
            )
            yield _image(engine)
    yield _busybox()
    yield _tool(_MMDEBSTRAP)


def _image(engine: Engine) -> Check:
    try:
        name = images.peer_image()
        built = engine.has_image(name)
        found = name if built else f"{name} is not built"
    except (LabError, OSError) as error:
        built, found = False, str(error)
    return Check(
        group="containers",
        name="peer image",
        level=found_or(Level.WARNING, built),
        found=found,
        why="built-in programs as containers",
        remedy="" if built else "lab image build",
    )


def _busybox() -> Check:
    try:
        path = str(gate.busybox())
    except MissingError:
        path = ""
    return Check(
        group="containers",
        name="static busybox",
        level=found_or(Level.WARNING, bool(path)),
        found=path or "not installed",
        why="holds a container's program until its network is up",
        remedy="" if path else "apt-get install busybox-static",
        packages=() if path else ("busybox-static",),
    )
