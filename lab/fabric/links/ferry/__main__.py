"""The ferry's process: `python -m lab.fabric.links.ferry DESCRIPTOR SEED`.

`DESCRIPTOR` is its end of the socket pair.  It ends when the other end is
closed, and when its parent dies while a copy of that end lives on elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.fabric.links.ferry.engine import Engine
from lab.fabric.links.ferry.protocol import (
    MESSAGE_BYTES,
    AnyReply,
    AnyRequest,
    Attach,
    Detach,
    Done,
    Drain,
    Failed,
    Shape,
    Statistics,
    encode,
)

_PR_SET_PDEATHSIG = 1
_NICEST = -20
_DESCRIPTORS = 2


class Control:
    """The requests that come over `connection`, carried out on `engine`."""

    def __init__(self, connection: socket.socket, engine: Engine) -> None:
        self._connection = connection
        self._engine = engine
        self._decoder = msgspec.msgpack.Decoder(AnyRequest)

    def on_readable(self) -> None:
        """Answer one request; stop the engine when the other side is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._connection, MESSAGE_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
            if not data:
                self._engine.stop()
                return
            reply, attached = self._answer(data, descriptors)
            try:
                socket.send_fds(self._connection, [encode(reply)], attached)
            finally:
                for descriptor in attached:
                    os.close(descriptor)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._engine.stop()

    def _answer(self, data: bytes, descriptors: list[int]) -> tuple[AnyReply, list[int]]:
        try:
            match self._decoder.decode(data):
                case Attach(link=link):
                    end_a, end_b = descriptors
                    self._engine.attach(link, end_a, end_b)
                case Shape(link=link):
                    self._engine.shape(link)
                case Detach(name=name):
                    self._engine.detach(name)
                case Drain(name=name):
                    (told,) = descriptors
                    self._engine.drain(name, partial(os.close, told))
                case Statistics():
                    return Done(), [_file_with(encode(self._engine.stats()))]
        except LabError as error:
            return Failed(message=error.message, remedy=error.remedy), []
        except Exception as error:
            return Failed(message=f"{type(error).__name__}: {error}"), []
        return Done(), []


def main(arguments: list[str]) -> int:
    """Carry links until the other end of the socket pair is closed."""
    descriptor, seed = int(arguments[0]), int(arguments[1])
    parent = os.getppid()
    engine = Engine(seed, real_time=_hurry())
    _end_with_parent(parent)
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(False)
    engine.watch(descriptor, Control(connection, engine).on_readable)
    # Nothing that the loop makes has cycles, and a collection takes
    # milliseconds that the frames do not have.
    gc.collect()
    gc.freeze()
    gc.disable()
    engine.run()
    return 0


def _hurry() -> bool:
    """Ask to run before the programs whose packets wait for us; True if granted.

    A program that fills the processors would otherwise delay its own packets
    by scheduling slices, and niceness counts only inside a session's group
    where sched_autogroup_enabled is set: beside three busy programs on two
    processors, packets were 0.1 ms late with this (99th percentile) and 0.5 ms
    to seconds without.  The lowest real-time priority is enough, and the
    kernel leaves the others 5 % (sched_rt_runtime_us, or the fair server).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return True
    except OSError:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICEST)
        return False


def _end_with_parent(parent: int) -> None:
    """End when the process that started us does.

    The kernel signals the end of the *thread* that started us (prctl(2)), so
    the handler looks whether the process is still there.
    """

    def on_signal(_number: int, _frame: object) -> None:
        if os.getppid() != parent:
            sys.exit(0)

    signal.signal(signal.SIGUSR1, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:
        sys.exit(0)


def _file_with(data: bytes) -> int:
    """An anonymous file with `data` in it, to be read from its start."""
    descriptor = os.memfd_create("lab-ferry-stats", os.MFD_CLOEXEC)
    with Path(f"/proc/self/fd/{descriptor}").open("wb") as file:
        file.write(data)
    return descriptor


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
