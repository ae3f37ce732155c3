"""Talking to an agent from the command line: blocking, one request per connection."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

from lab.agent import wire
from lab.errors import LabError, error_from_wire
from lab.paths import LabPaths


class AgentGoneError(LabError):
    """The agent died or hung up; the lab itself still runs."""


def _gone(paths: LabPaths) -> AgentGoneError:
    return AgentGoneError(
        f"the agent of lab {paths.lab!r} does not answer",
        remedy=f"its last words are in {paths.agent_log}; `lab down {paths.lab}` removes the lab",
    )


def stream(
    sock: socket.socket, request: dict[str, Any], *, until_interrupted: bool = False
) -> Iterator[dict[str, Any]]:
    """Send `request` on `sock` and yield every answer up to and including the result.

    With `until_interrupted`, the first Ctrl-C tells the agent to come to an
    end, and its last answers are still yielded.
    Raises the agent's LabError if it answered with one, EOFError if it hung up.
    """
    ending = _hang_up_first(sock) if until_interrupted else contextlib.nullcontext()
    with ending, sock.makefile("rb") as lines:
        sock.sendall(wire.pack(request))
        while line := lines.readline(wire.LINE_LIMIT):
            answer = wire.unpack(line)
            if error := answer.get("error"):
                raise error_from_wire(error)
            yield answer
            if "result" in answer:
                return
    raise EOFError


@contextlib.contextmanager
def _hang_up_first(sock: socket.socket) -> Iterator[None]:
    """Let the first Ctrl-C say no more on `sock`, wherever the program is, and the next one end it.

    For the main thread, which alone hears of signals.
    """

    def hang_up(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)

    before = signal.signal(signal.SIGINT, hang_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ask(
    paths: LabPaths, request: dict[str, Any], *, until_interrupted: bool = False
) -> Iterator[dict[str, Any]]:
    """Ask the agent of a lab; yields its events and last the message with `result`.

    `until_interrupted` as in `stream`.

    Raises AgentGoneError when there is no agent, LabError when it refuses.
    """
    try:
        sock = wire.connect(paths.agent_socket)
    except OSError as error:
        raise _gone(paths) from error
    with sock:
        try:
            yield from stream(sock, request, until_interrupted=until_interrupted)
        except (EOFError, ConnectionError) as error:
            raise _gone(paths) from error


def result(paths: LabPaths, request: dict[str, Any]) -> Any:
    """The result of a request whose events do not matter; errors as `ask`."""
    *_, last = ask(paths, request)
    return last["result"]
