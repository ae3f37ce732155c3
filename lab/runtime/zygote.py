"""The prefork server: `python -m lab.runtime.zygote FD [GROUP]`, started by the agent.

It imports what a peer needs once, freezes it, and then forks a child per
order, so that a peer costs milliseconds and shares the interpreter's memory
with all the others.  One thread, one loop; everything that it waits for is a
file descriptor: orders, children that ended, and the report of each child that
is on its way into its node.

The server lives in a mount namespace of its own, taken while the machine has
few mounts and without the names of the labs' network namespaces.  Its children
copy that small table, not one with a mount per node of every lab, and they
don't hold on to mounts that others want to remove.

It is in the lab's control group before it takes an order, and so is all that
it starts.  It ends when its socket does, that is, when the agent is gone.  Its children
live on; `lab down` ends them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from lab.fabric import netns
from lab.paths import NETNS_DIR
from lab.peer import preload, rehearse_live
from lab.runtime import enter, group, libc
from lab.runtime.orders import Exited, Failed, Message, Signal, Spawn, Started, encode, order

CANNOT_EXECUTE = 126
NOT_FOUND = 127
NO_NODE = 125


@dataclass(slots=True)
class _Child:
    node: str
    pid: int
    report: int
    """Read end of the pipe that the child closes when it runs, or writes its failure to."""


@dataclass(slots=True)
class _Server:
    control: socket.socket
    root: int
    """The root of the mount tree that the agent sees."""
    wake: int
    """Readable when a child has ended."""
    selector: selectors.EpollSelector = field(default_factory=selectors.EpollSelector)
    children: dict[int, _Child] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    pending: bytes = b""

    def serve(self) -> None:
        """Carry out orders until the agent is gone."""
        self.selector.register(self.control, selectors.EVENT_READ)
        self.selector.register(self.wake, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.control:
                    if not self._read_orders():
                        return
                elif key.fd == self.wake:
                    self._reap()
                elif isinstance(key.data, _Child):
                    self._read_report(key.data)

    def _tell(self, message: Message) -> None:
        # The agent reads all the time; one that does not is one that is gone.
        with contextlib.suppress(OSError):
            self.control.sendall(encode(message))

    def _read_orders(self) -> bool:
        try:
            data = self.control.recv(1 << 18)
        except ConnectionError:
            return False
        if not data:
            return False
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            match order(line):
                case Spawn() as spawn:
                    self._spawn(spawn)
                case Signal(node=node, number=number):
                    if node in self.nodes:
                        _signal_group(self.nodes[node], number)
        return True

    def _spawn(self, spawn: Spawn) -> None:
        try:
            reading, writing = os.pipe()
            try:
                pid = os.fork()
            except OSError:
                os.close(reading)
                os.close(writing)
                raise
        except OSError as error:
            self._tell(Failed(spawn.node, NO_NODE, f"can't fork: {error.strerror}"))
            return
        if pid == 0:
            _child(spawn, self.root, writing)
        os.close(writing)
        child = _Child(spawn.node, pid, reading)
        self.children[pid] = child
        self.nodes[spawn.node] = pid
        self.selector.register(reading, selectors.EVENT_READ, child)

    def _read_report(self, child: _Child) -> None:
        """Tell the agent whether the child came to run; at once, and once."""
        if child.report < 0:
            return
        self.selector.unregister(child.report)
        with os.fdopen(child.report, "rb") as stream:
            text = stream.read()
        child.report = -1
        if not text:
            self._tell(Started(child.node, child.pid))
            return
        code, _, reason = text.decode(errors="replace").partition(" ")
        self._tell(Failed(child.node, int(code), reason))
        # What follows is the end of a program that never ran.
        self.children.pop(child.pid, None)
        if self.nodes.get(child.node) == child.pid:
            del self.nodes[child.node]

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake, 4096):
                pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.get(pid)
            if child is None:
                continue
            self._read_report(child)
            if self.children.pop(pid, None) is None:
                continue
            if self.nodes.get(child.node) == pid:
                del self.nodes[child.node]
            self._tell(Exited(child.node, pid, os.waitstatus_to_exitcode(status)))


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # Just forked, it leads no group yet; ended, it is still ours to reap.
        os.kill(pid, number)


def _child(spawn: Spawn, root: int, report: int) -> NoReturn:
    """What the forked child does; never returns to the loop."""
    code = NO_NODE
    failing = "can't enter the node"
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL if spawn.argv else signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        for folder in spawn.groups:
            failing = f"can't join {folder}"
            Path(folder, "cgroup.procs").write_text("0")
        failing = "can't enter the node"
        libc.set_name(spawn.host)
        namespace = os.open(
            os.path.relpath(spawn.namespace, "/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=root
        )
        enter.join(namespace, spawn.host)
        if spawn.argv:
            libc.unshare(libc.CLONE_NEWNS)
            enter.cover(spawn.folder)
            for mount in spawn.mounts:
                failing = f"can't mount {mount.source} at {mount.target}"
                enter.bind(mount)
            failing = "can't enter the node"
        os.chdir(spawn.folder)
        for name, number in (("out.jsonl", 1), ("err.log", 2)):
            output = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.dup2(output, number)
        os.dup2(report, 3, inheritable=False)
        os.closerange(4, 1 << 20)
        report = 3
        if spawn.argv:
            failing = f"can't run {spawn.argv[0]!r}"
            os.execvpe(spawn.argv[0], list(spawn.argv), spawn.env)  # noqa: S606 - no shell is the point
        os.environ.clear()
        os.environ.update(spawn.env)
        os.close(report)
        report = -1
        code = _run_module(*spawn.module) if spawn.module else _run_built_in()
    except BaseException as error:
        if report >= 0:
            if failing.startswith("can't run"):
                code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE
            os.write(
                report, f"{code} {failing}: {getattr(error, 'strerror', None) or error}".encode()
            )
        else:
            traceback.print_exc()
            code = 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run_built_in() -> int:
    from lab.peer import main  # noqa: PLC0415 - imported by `preload`; other children need none of it

    return _code_of(main.run)


def _run_module(name: str, *arguments: str) -> int:
    import runpy  # noqa: PLC0415 - children alone need it

    def run() -> int:
        sys.argv = [name, *arguments]
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        return 0

    return _code_of(run)


def _code_of(program: Callable[[], int]) -> int:
    # A line that stays in a buffer is a `ready` that nobody sees.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # TextIOWrapper, always
    try:
        return program()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)


def _own_mounts() -> None:
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", "none", libc.MS_REC | libc.MS_PRIVATE)
    with contextlib.suppress(OSError):
        libc.detach(str(NETNS_DIR))


def main(arguments: list[str]) -> int:
    """Serve orders on the inherited socket whose descriptor number is given, in the group given."""
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    group.join(Path(arguments[1]) if arguments[1:] else None)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _own_mounts()
    preload()
    with netns.scratch():
        netns.loopback_up()
        rehearse_live()
    wake, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # A terminal's interrupt is for the command in front, not for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    _Server(control, root, wake).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
