"""Taking a process into a node.

A process program and `lab exec` enter a node by the same code: the node's
network namespace, a UTS namespace with the node's name, and (but for the
built-in program, which has no use for it) a private mount namespace in which
`/etc/hosts` and `/etc/resolv.conf` are the node's and `/sys` shows the node's
interfaces.  These mounts exist for that process and its children alone, so
there is nothing to undo.

A container is entered as `nsenter` does it, by joining the namespaces of its
first process: 1 ms, where `docker exec` takes 36 ms.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lab.errors import InputError, LabError
from lab.paths import LabPaths
from lab.plan.gateways import told
from lab.plan.ipv6 import mapped
from lab.plan.model import Node
from lab.runtime import group, hierarchy, libc
from lab.topology.behaviour import Mount, Runtime

CONTAINER_PID = "container.pid"
"""In a node's folder: the process number of its container's first process."""

_CONTAINER_NAMESPACES = (
    libc.CLONE_NEWIPC
    | libc.CLONE_NEWUTS
    | libc.CLONE_NEWNET
    | libc.CLONE_NEWPID
    | libc.CLONE_NEWNS
    | libc.CLONE_NEWCGROUP
)
_FILES = ("hosts", "resolv.conf")
_NO_RESOLVER = "# no resolver in reach\noptions attempts:1 timeout:1\n"
_SERVICES = {
    "stun": "LAB_STUN",
    "rendezvous": "LAB_RENDEZVOUS",
    "relay": "LAB_RELAY",
    "web-relay": "LAB_WEB_RELAY",
}


def hosts(node: str, env: Mapping[str, str]) -> str:
    """The node's `/etc/hosts`: its own name, and the lab's services by role.

    The addresses come from the contract environment, so a program can be
    told `stun` instead of an address: one of each family, and where there is
    IPv4 behind a NAT64 only, its address there (RFC 6052).
    """
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    own = [address for address in env.get("LAB_ADDRESSES", "").split(",") if address]
    lines += [f"{address} {node}" for address in own or ["127.0.1.1"]]
    for name, variable in _SERVICES.items():
        listed = [
            endpoint.rpartition(":")[0].strip("[]")
            for endpoint in env.get(variable, "").split(",")
            if endpoint
        ]
        four = next((address for address in listed if ":" not in address), "")
        six = next((address for address in listed if ":" in address), "")
        if four and (prefix := env.get("LAB_NAT64")):
            four, six = "", six or mapped(four, prefix)
        lines += [f"{address} {name}" for address in (four, six) if address]
    return "\n".join(lines) + "\n"


def write_files(folder: Path, node: str, env: Mapping[str, str]) -> None:
    """Write `hosts` and `resolv.conf` into the node's folder, for `cover` and for containers.

    Most nodes have no name server, and a resolver that knows of none gives up at
    once instead of waiting for the host's, which can't be reached from a node.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts").write_text(hosts(node, env))
    (folder / "resolv.conf").write_text(resolver(env))


def resolver(env: Mapping[str, str]) -> str:
    """The node's `/etc/resolv.conf`: the resolver that a firewall above it offers, if any."""
    server = env.get("LAB_RESOLVER")
    return f"nameserver {server}\n" if server else _NO_RESOLVER


def join(namespace: int, node: str) -> None:
    """Give the calling process the node's network and name; `namespace` is open.

    That is all that the built-in program needs.  Raises OSError.
    """
    libc.setns(namespace, libc.CLONE_NEWNET)
    libc.unshare(libc.CLONE_NEWUTS)
    socket.sethostname(node)


def cover(folder: str) -> None:
    """Lay the node's files over the host's.

    `folder` is the node's, with what `write_files` wrote.  The caller's mount
    namespace must be its own, and its mounts private or slaves: nothing of this
    may reach the host.  Raises OSError.
    """
    for name in _FILES:
        # A host without the file, or with a link to nowhere, has nothing to cover.
        with contextlib.suppress(FileNotFoundError):
            libc.mount(f"{folder}/{name}", f"/etc/{name}", "none", libc.MS_BIND)
    # Busy, or in a container that forbids it: the host's view stays, and does no harm.
    with contextlib.suppress(OSError):
        libc.mount("sysfs", "/sys", "sysfs", 0)


def bind(mount: Mount) -> None:
    """Lay a file or folder of the host over another that exists; as `cover`, for the caller alone.

    Raises OSError.
    """
    libc.mount(mount.source, mount.target, "none", libc.MS_BIND | libc.MS_REC)
    if mount.read_only:
        flags = libc.MS_BIND | libc.MS_REMOUNT | libc.MS_RDONLY
        libc.mount("none", mount.target, "none", flags)


def prepare(paths: LabPaths, node: str, mounts: Sequence[Mount] = ()) -> None:
    """Take the calling process into `node`, ready to execute a program there.

    Raises LabError if the node's namespace is not there, or `mounts` can't be.
    """
    path = paths.netns(node)
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _gone(paths, node) from error
    try:
        join(namespace, node)
        # What is mounted here must stay here; what the host unmounts must not.
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", "none", libc.MS_REC | libc.MS_SLAVE)
        cover(str(paths.node(node)))
        for mount in mounts:
            bind(mount)
    except OSError as error:
        raise LabError(
            f"can't enter node {node!r}: {error.strerror}",
            remedy="run as root; `lab status` says whether the node is up",
        ) from error
    finally:
        os.close(namespace)


def become(paths: LabPaths, node: Node, program: Sequence[str]) -> NoReturn:
    """Become `program` inside `node`: its input, output and exit code are the caller's.

    In a container node it runs in the container, with the container's
    environment; elsewhere in the node's namespaces with the host's files and
    the caller's environment plus the node's.  Raises LabError if the node
    can't be entered, InputError if the program can't be executed.
    """
    own = node.program
    if own is not None and own.runtime is Runtime.DOCKER:
        environment = _prepare_container(paths, node.name)
    else:
        environment = dict(os.environ)
        environment.update(own.env if own is not None else ())
        environment.update(LAB_NAME=paths.lab, LAB_NODE=node.name)
        environment.update(LAB_DIR=str(paths.node(node.name)), LAB_STATE=str(paths.root))
        # A firewall may have changed since the program was started, and with it the resolver.
        environment.pop("LAB_RESOLVER", None)
        environment.pop("LAB_PROXY", None)
        environment.update(told(node))
        write_files(paths.node(node.name), node.name, environment)
        # Before the node's /sys hides the groups.
        group.join(group.of(paths))
        if own is not None and (own.memory_bytes or own.cpus):
            for folder in group.limited(paths, node.name):
                group.join(folder)
        prepare(paths, node.name, own.mounts if own is not None and own.command else ())
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(program[0], list(program), environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        raise InputError(
            f"can't run {program[0]!r} in node {node.name!r}: {error.strerror}",
            remedy="a container node sees its image's files, other nodes the host's",
        ) from error


def container_pid(paths: LabPaths, node: str) -> int:
    """The first process of the node's container; LabError if it is not running."""
    try:
        pid = int((paths.node(node) / CONTAINER_PID).read_text())
        # The number may have changed hands; the namespace can't have.
        if Path(f"/proc/{pid}/ns/net").samefile(paths.netns(node)):
            return pid
    except (OSError, ValueError):
        pass
    raise LabError(
        f"the container of node {node!r} is not running",
        remedy=f"`lab logs {node}` shows what it said before it ended",
    )


def _prepare_container(paths: LabPaths, node: str) -> dict[str, str]:
    """Join every namespace of the container; the environment of its first process."""
    pid = container_pid(paths, node)
    groups: list[int] = []
    try:
        environment = dict(_environment(Path(f"/proc/{pid}/environ").read_bytes()))
        folder = Path(f"/proc/{pid}/cwd").readlink()
        # Opened here, as inside the container they are not to be seen.
        for entry in hierarchy.of(pid):
            with contextlib.suppress(OSError):
                groups.append(os.open(entry / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        handle = os.pidfd_open(pid)
        try:
            libc.setns(handle, _CONTAINER_NAMESPACES)
        finally:
            os.close(handle)
        with contextlib.suppress(OSError):
            os.chdir(folder)
    except OSError as error:
        raise LabError(
            f"can't enter the container of node {node!r}: {error.strerror}",
            remedy="run as root; `lab status` says whether the node is up",
        ) from error
    if "TERM" in os.environ:
        environment.setdefault("TERM", os.environ["TERM"])
    _fork_and_follow()
    for descriptor in groups:
        # What Docker limits the container by holds for who comes into it, too.
        with contextlib.suppress(OSError):
            os.write(descriptor, b"0")
    return environment


def _environment(block: bytes) -> Iterator[tuple[str, str]]:
    for item in block.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if equals:
            yield os.fsdecode(name), os.fsdecode(value)


def _fork_and_follow() -> None:
    """Return in a child; the caller follows it and ends as it ends.

    A process that joined a PID namespace is not in it: its children are.
    """
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    # The terminal sends these to the child itself, being in the same group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _gone(paths: LabPaths, node: str) -> LabError:
    return LabError(
        f"node {node!r} of lab {paths.lab!r} has no network namespace",
        remedy="something removed it; take the lab down and up again",
    )
