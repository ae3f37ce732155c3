"""What the kernel can do, tried out rather than looked up.

Each probe runs in a thread with a network namespace of its own; both end with
the probe, and every device and rule in the namespace with them.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.errors import LabError, MissingError
from lab.fabric import messages, netlink, netns, rules
from lab.fabric.links import tap
from lab.fabric.rules.flows import flows
from lab.observe.doctor.check import Check, Level, found_or
from lab.plan.model import Interface, Node, NodeKind
from lab.topology.behaviour import Dependence, Direction, Firewall, Nat, PortPolicy, Ports, Verdict

_KERNEL_REMEDY = "run a kernel with it: every Debian or Ubuntu kernel has it"


def checks() -> Iterator[Check]:
    """What lab needs of the kernel; one finding only if we may not ask."""
    if os.geteuid() != 0:
        yield Check(
            group="kernel",
            name="root",
            level=Level.MISSING,
            found="not root; the kernel was not probed",
            why="lab makes network namespaces",
            remedy="sudo lab doctor",
        )
        return
    yield Check(group="kernel", name="root", found=f"uid 0, Linux {os.uname().release}")
    namespaces = _probe("network namespaces", lambda: None, "every node is one")
    yield namespaces
    if namespaces.level is not Level.OK:
        return
    yield _probe("veth", _veth, "links without impairments, and those that the kernel shapes")
    yield _probe("bridge", _bridge, "shared segments")
    yield _probe(
        "TAP devices",
        _tap,
        "user-space links",
        remedy="modprobe tun; in a container, add --device /dev/net/tun",
    )
    yield _probe("NAT rules", _nats, "routers")
    yield _probe("firewall rules", _firewall, "firewalls")
    yield _probe(
        "connection tracking (ctnetlink)",
        flows,
        "looking into a NAT's state",
        absent=Level.WARNING,
        remedy="modprobe nf_conntrack_netlink",
    )
    yield _probe(
        "packet sockets",
        _packets,
        "lab explain: packets as each node sees them",
        absent=Level.WARNING,
        remedy="modprobe af_packet",
    )
    yield _probe(
        "rule tracing (nftables)",
        _tracing,
        "lab explain: which rule dropped a packet",
        absent=Level.WARNING,
        remedy="run Linux 5.12 or later with CONFIG_NF_TABLES, as every Debian since 12 has",
    )
    yield _netem()
    yield _splices()
    yield _pressure()


def _probe(
    name: str,
    probe: Callable[[], object],
    why: str,
    *,
    absent: Level = Level.MISSING,
    remedy: str = _KERNEL_REMEDY,
) -> Check:
    try:
        with netns.scratch():
            probe()
    except MissingError as error:
        # A program is missing, not a feature: its own check says how to get it.
        found, remedy = error.message, error.remedy or remedy
    except LabError as error:
        found = error.message
    except OSError as error:
        found = error.strerror or str(error)
    else:
        return Check(group="kernel", name=name, found="works", why=why)
    return Check(group="kernel", name=name, level=absent, found=found, why=why, remedy=remedy)


def _veth() -> None:
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ends = (
            messages.Device(name="a", mac="02:00:00:00:00:01", mtu=1500),
            messages.Device(name="b", mac="02:00:00:00:00:02", mtu=1500),
        )
        with netlink.Session() as session:
            session.demand([messages.veth(*ends, here)], "probe")
    finally:
        os.close(here)


def _bridge() -> None:
    with netlink.Session() as session:
        session.demand([messages.bridge("br0")], "probe")


def _tap() -> None:
    os.close(tap.create("tap0", "02:00:00:00:00:01", 1500))


def _router(**behaviour: Nat | Firewall) -> Node:
    return Node(
        name="probe",
        kind=NodeKind.ROUTER,
        interfaces=(
            Interface(name="wan", addresses=("45.0.0.2/30",)),
            Interface(name="lan", addresses=("192.168.1.1/24",)),
        ),
        forwarding=True,
        wan="wan",
        lan="lan",
        subscribers=("192.168.1.2",),
        **behaviour,  # type: ignore[arg-type]  # msgspec's constructor is generated
    )


def _nats() -> None:
    """One of each kind that the rule sets know: they use different parts of the kernel."""
    for mapping, ports in (
        (Dependence.ENDPOINT_INDEPENDENT, Ports()),
        (Dependence.ADDRESS_AND_PORT_DEPENDENT, Ports(policy=PortPolicy.RANDOM)),
        (Dependence.ENDPOINT_INDEPENDENT, Ports(policy=PortPolicy.BLOCK, block=512)),
    ):
        for filtering in Dependence:
            nat = Nat(mapping=mapping, filtering=filtering, ports=ports)
            rules.load(rules.render(_router(nat=nat)))


def _firewall() -> None:
    closed = Direction(default=Verdict.REJECT)
    rules.load(rules.render(_router(firewall=Firewall(outbound=closed, inbound=closed))))


_HERE = Path("/proc/thread-self/ns/net")
_HEARD_S = 2.0
_DISCARD = ("127.0.0.1", 9)


def _packets() -> None:
    """A packet socket with the filter and the time stamps that explanations need."""
    from lab.observe.capture.packets import Tap  # noqa: PLC0415 - only who asks pays for it

    Tap(_HERE, "here", ("127.0.0.1",)).close()


def _tracing() -> None:
    """Send a packet past a rule that has it traced, and hear of it."""
    from lab.observe.capture.tracing import Tracer  # noqa: PLC0415 - only who asks pays for it

    with netlink.Session() as session:
        session.demand([messages.up("lo")], "probe")
    tracer = Tracer(_HERE, "a node")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            handle.sendto(b"probe", _DISCARD)
        heard = select.select([tracer.fileno()], [], [], _HEARD_S)[0]
        if not heard or not list(tracer.read()):
            raise LabError("the kernel takes the rule and says nothing")
    finally:
        tracer.close()


def _netem() -> Check:
    from lab.fabric.links import kernel  # noqa: PLC0415 - looks into the kernel when imported

    found = kernel.supported()
    return Check(
        group="kernel",
        name="netem",
        found=(
            "absent: links with delay or loss are carried in user space"
            if not found
            else "works"
            if kernel.seeded()
            else "works, without seeds: links with chance in them are carried in user space"
        ),
        why="delay and loss inside the kernel, by seed since Linux 6.6",
    )


def _splices() -> Check:
    from lab.fabric.links import bpf  # noqa: PLC0415 - for the doctor alone

    return Check(
        group="kernel",
        name="tcx",
        found=(
            "works"
            if bpf.supported()
            else "absent: to delay or lose, a plain wire may be replaced, and packets on it lost"
        ),
        why="links change from plain to impaired and back under load (Linux 6.6)",
    )


def _pressure() -> Check:
    try:
        Path("/proc/pressure/cpu").read_text()
    except OSError as error:
        counted = error.errno not in (errno.ENOENT, errno.EOPNOTSUPP)
    else:
        counted = True
    return Check(
        group="kernel",
        name="pressure stall information",
        level=found_or(Level.WARNING, counted),
        found="counted" if counted else "not counted",
        why="one of the signs that the machine distorts a lab",
        remedy="" if counted else "boot with psi=1",
    )
