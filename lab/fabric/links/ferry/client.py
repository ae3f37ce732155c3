"""The agent's side of the ferry."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

import lab
from lab.errors import LabError
from lab.fabric.links.dropped import TapDrops
from lab.fabric.links.ferry.protocol import (
    MESSAGE_BYTES,
    AnyReply,
    Attach,
    Detach,
    Drain,
    Failed,
    FerryStats,
    Request,
    Shape,
    Statistics,
    encode,
)
from lab.paths import LabPaths
from lab.plan.model import Link

_ANSWER_S = 10.0
"""An answer takes well under a millisecond; a ferry that owes one for so long hangs."""

_BEGIN_S = 60.0
"""The first answer waits for the program to be loaded: 13 s where a processor is emulated."""

_GOODBYE_S = 2.0

_DRAINED_MS = 30_000
"""The longest queue and delay that the model has, or more; a link under a flood is never empty."""


class Ferry:
    """A running ferry.  Every method may be called from any thread."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._lock = threading.Lock()
        self._closed = False
        self._replies = msgspec.msgpack.Decoder(AnyReply)
        self._stats = msgspec.msgpack.Decoder(FerryStats)
        self._taps = TapDrops()

    @classmethod
    def start(cls, paths: LabPaths, seed: int) -> Self:
        """Start the ferry of a lab; what it has to complain about is in `ferry.log`.

        It does not wait for the process: requests wait in its socket.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_BEGIN_S)
        home = str(Path(lab.__file__).parent.parent)
        search = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "LAB_STATE": str(paths.root),
            "PYTHONPATH": f"{home}{os.pathsep}{search}" if search else home,
        }
        command = (sys.executable, "-m", "lab.fabric.links.ferry", str(theirs.fileno()), str(seed))
        paths.root.mkdir(parents=True, exist_ok=True)
        with theirs, (paths.root / "ferry.log").open("ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def attach(self, link: Link, fd_a: int, fd_b: int) -> None:
        """Carry `link` between two TAP devices (`lab.fabric.links.tap.create`).

        The descriptors are the ferry's from here on: they are closed in this
        process whatever happens, so that the devices live exactly as long as
        the ferry carries them.

        Raises LabError if the link is attached already or the ferry is gone.
        """
        try:
            self._ask(Attach(link=link), (fd_a, fd_b))
            self._taps.watch(link.name, (fd_a, fd_b))
        finally:
            os.close(fd_a)
            os.close(fd_b)

    def shape(self, link: Link) -> None:
        """Give a carried link the impairments of `link`; what is on its way is not touched.

        Raises LabError if the link is not carried or the ferry is gone.
        """
        self._ask(Shape(link=link))

    def drain(self, name: str) -> None:
        """Return once nothing is on a carried link any more, or after half a minute.

        Raises LabError if the link is not carried or the ferry is gone.
        """
        done, told = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                self._ask(Drain(name=name), (told,))
            finally:
                os.close(told)
            waiting = select.poll()
            waiting.register(done)
            waiting.poll(_DRAINED_MS)
        finally:
            os.close(done)

    def detach(self, name: str) -> None:
        """Stop carrying the link `name`; both devices vanish.

        Raises LabError if the link is not carried or the ferry is gone.
        """
        self._taps.forget(name)
        self._ask(Detach(name=name))

    def stats(self) -> FerryStats:
        """What was carried, dropped and late since the start; LabError if the ferry is gone."""
        (descriptor,) = self._ask(Statistics())
        # Read from the start: the position came along with the descriptor.
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            return self._stats.decode(file.read())

    def unfetched(self) -> int:
        """How many frames the kernel has dropped because the ferry did not fetch them in time.

        The ferry itself is not asked: it may be what hangs.
        """
        return self._taps.total()

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def on_exit(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the exit status, in a thread, if the ferry ends by itself.

        Not called after `close`.
        """

        def wait() -> None:
            status = self._process.wait()
            if not self._closed:
                callback(status)

        threading.Thread(target=wait, name="ferry-exit", daemon=True).start()

    def close(self) -> None:
        """End the ferry, and every device that it carries with it; done already is fine."""
        self._closed = True
        with contextlib.suppress(OSError):
            # Not only closed: a thread that waits for an answer holds on to it.
            self._connection.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._taps.close()
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: Request, descriptors: Sequence[int] = ()) -> list[int]:
        """Send `request`, wait for the reply; the descriptors that came with it."""
        try:
            with self._lock:
                socket.send_fds(self._connection, [encode(request)], descriptors)
                data, received, _, _ = socket.recv_fds(
                    self._connection, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
                )
        except TimeoutError as error:
            # A late answer would be taken for that to the next question.
            self._process.kill()
            raise self._gone("does not answer") from error
        except OSError as error:
            raise self._gone("is gone") from error
        if not data:
            raise self._gone("is gone")
        self._connection.settimeout(_ANSWER_S)
        reply: AnyReply = self._replies.decode(data)
        if isinstance(reply, Failed):
            raise LabError(reply.message, remedy=reply.remedy)
        return received

    @staticmethod
    def _gone(what: str) -> LabError:
        return LabError(
            f"the process that carries this lab's links {what}",
            remedy="its ferry.log in the lab's state folder says why; lab down, then lab up",
        )
