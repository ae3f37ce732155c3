"""The kernel settings of a node's namespace: what a network of separate machines would show.

A new namespace takes its IPv4 settings from the host's root namespace
(net.core.devconf_inherit_init_net), so everything that matters is said here,
and a lab behaves alike on a host with Docker and on one without.  Settings of
`default` reach an interface only when it is made, so they are set before any
link is.

`/proc/sys/net` shows the namespace of the thread that opens it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence

from lab.errors import LabError, MissingError
from lab.plan.model import Node, NodeKind

# System calls that the C library has no names for before glibc 2.36; the numbers are those
# of every architecture.
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

Setting = tuple[str, str]
"""A path below /proc/sys/net and its value."""

_EVERY_NODE: tuple[Setting, ...] = (
    # Asymmetric paths are what a lab is for; a strict host would drop them silently.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    # An interface answers for its own addresses only, as separate devices would.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    # A router that hairpins must not tell hosts to bypass it.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    # No address of its own making, so an interface without IPv6 in the plan is
    # silent: no DAD, MLD or router solicitations in captures.  ::1 and explicit
    # addresses work as ever.
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/accept_ra", "0"),
)

_HOST: tuple[Setting, ...] = (
    # A program that is not root may bind any port and send pings, as Docker has it.
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
)

_SEGMENT: tuple[Setting, ...] = (
    # A switch is no IP node, and nothing on the host filters what it passes.
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
)

_NAMESPACES_EACH = 64
"""Into how many namespaces one private folder looks."""

_OPTIONAL = ("ipv6/", "bridge/")
"""Absent where the kernel has no such module loaded, and then not needed."""


def settings(node: Node) -> tuple[Setting, ...]:
    """What a new namespace for `node` needs; pure."""
    mine = _EVERY_NODE
    if node.kind is NodeKind.HOST:
        mine += _HOST
    elif node.kind is NodeKind.SEGMENT:
        mine += _SEGMENT
    # First: the kernel resets other settings when it changes.
    return forwarding(node) + mine


def forwarding(node: Node) -> tuple[Setting, ...]:
    """Whether `node` passes on what is not for it; pure.

    IPv6 only where the plan has it: a forwarding interface joins groups aloud.
    """
    value = "1" if node.forwarding else "0"
    answer: tuple[Setting, ...] = (("ipv4/ip_forward", value),)
    if any(":" in address for port in node.interfaces for address in port.addresses):
        # A host or a container engine may have IPv6 off for whatever is new.
        answer += (("ipv6/conf/all/disable_ipv6", "0"), ("ipv6/conf/all/forwarding", value))
    return answer


def link_local(interface: str) -> tuple[Setting, ...]:
    """For an interface with IPv6 addresses in the plan: a link-local one too, usable at once."""
    return (
        (f"ipv6/conf/{interface}/accept_dad", "0"),
        (f"ipv6/conf/{interface}/addr_gen_mode", "0"),
    )


def apply(values: Sequence[Setting], node: str) -> None:
    """Set `values` in the calling thread's namespace; `node` is for error texts.

    Raises LabError if the kernel refuses one, MissingError without the privilege.
    """
    if not values:
        return
    folder = _private()
    try:
        for key, value in values:
            _write(folder, key, value, node)
    finally:
        os.close(folder)


class Writer:
    """As `apply`, for many namespaces; every method may be called from any thread.

    What `_private` gives is used for some namespaces before it is made anew:
    giving it back waits for all processors (RCU), and for who else does it.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._folders: set[int] = set()

    def apply(self, values: Sequence[Setting], node: str) -> None:
        """Set `values` in the calling thread's namespace; raises as `apply` does."""
        if values:
            folder = self._folder()
            for key, value in values:
                _write(folder, key, value, node)

    def close(self) -> None:
        """Give everything back; nobody writes any more."""
        with self._lock:
            for folder in self._folders:
                os.close(folder)
            self._folders.clear()
        self._mine = threading.local()

    def _folder(self) -> int:
        """The folder of this thread, which has seen few namespaces."""
        mine = self._mine
        if getattr(mine, "left", 0) == 0:
            fresh = _private()
            with self._lock:
                self._folders.add(fresh)
                if (used := getattr(mine, "folder", None)) is not None:
                    self._folders.discard(used)
                    os.close(used)
            mine.folder, mine.left = fresh, _NAMESPACES_EACH
        mine.left -= 1
        folder: int = mine.folder
        return folder


def _private() -> int:
    """The folder /proc/sys/net of a proc file system that nobody else looks into.

    The kernel caches what it looks up there, for all namespaces in one list
    by name: among a thousand namespaces the first look into one takes 300 µs
    in the common /proc, and so more for every further one.  A fresh instance,
    mounted nowhere, takes 150 µs and the wait for its end, and knows few.  Where there is
    none (before Linux 5.8, or without the privilege) it is the common one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    context = libc.syscall(_FSOPEN, b"proc", _FSOPEN_CLOEXEC)
    if context >= 0:
        try:
            libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
            mount = libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
        finally:
            os.close(context)
        if mount >= 0:
            try:
                return os.open("sys/net", _FOLDER, dir_fd=mount)
            finally:
                os.close(mount)
    return os.open("/proc/sys/net", _FOLDER)


def _write(folder: int, key: str, value: str, node: str) -> None:
    try:
        file = os.open(key, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)
    except FileNotFoundError as error:
        if not key.startswith(_OPTIONAL):
            raise MissingError(
                f"{node}: this kernel has no setting net/{key}",
                remedy="`lab doctor` says what this kernel lacks",
            ) from error
    except PermissionError as error:
        raise MissingError(
            f"{node}: not allowed to set net/{key}",
            remedy="run as root, where /proc/sys is writable (a container needs --privileged)",
        ) from error
    except OSError as error:
        raise LabError(f"{node}: setting net/{key} to {value}: {error.strerror}") from error
