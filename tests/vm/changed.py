"""A plain wire that the ferry comes into and goes from while it carries packets: for a guest.

`python -m tests.vm.changed` prints a JSON line for each change, as `lab link` makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lab.fabric import netns
from lab.fabric.links import bpf
from lab.paths import LabPaths

_SO_RCVBUFFORCE = 33
LAB = "t-changed"
TOPOLOGY = """\
name: t-changed
nodes:
  server: {via: internet}
  client: {via: internet}
"""
COUNT = 500
PERIOD_S = 0.01
PORT = 4000
DEADLINE_S = 10.0
SLOW = ("server", "internet", "delay=20ms", "backend=ferry")


def main() -> None:
    """Build a lab, change a wire of it and back again, take the lab away."""
    state = Path("/run/labs")
    state.mkdir()
    os.environ["LAB_STATE_DIR"] = str(state)
    file = state / "changed.yaml"
    file.write_text(TOPOLOGY)
    print(json.dumps({"check": "tcx", "found": bpf.supported()}), flush=True)
    lab("up", str(file), "--runtime", "process")
    paths = LabPaths.of(LAB)
    try:
        say("there", paths, "set", *SLOW)
        say("back", paths, "reset", "server", "internet")
    finally:
        lab("down", LAB)


def lab(*arguments: str) -> str:
    """What `lab` says of this; it must succeed."""
    command = (sys.executable, "-m", "lab", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def say(check: str, paths: LabPaths, *change: str) -> None:
    """Have packets pass both ways while `lab link` makes a change; one result."""
    ends = _ends(paths)
    with contextlib.ExitStack() as stack:
        for end in ends:
            stack.enter_context(end)
        with _flow(ends) as sent:
            said = lab("link", *change)
        counts = [Counter(_numbers(end, set(sent))) for end in ends]
        delay = _delay_ms(ends)
    result = {
        "check": check,
        "said": said,
        "sent": len(sent),
        "lost": [len(set(sent) - set(count)) for count in counts],
        "doubled": [sum(n > 1 for n in count.values()) for count in counts],
        "round_trip_ms": delay,
    }
    print(json.dumps(result), flush=True)


def _ends(paths: LabPaths) -> tuple[socket.socket, socket.socket]:
    """A UDP socket in each node, connected to the other."""
    made, addresses = [], []
    for node in ("server", "client"):
        with netns.inside(paths.netns(node)):
            made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            shown = subprocess.run(
                ["ip", "-j", "-4", "address", "show", "dev", "eth0"],
                capture_output=True,
                check=True,
            ).stdout
        addresses.append(json.loads(shown)[0]["addr_info"][0]["local"])
    for end, own, other in zip(made, addresses, addresses[::-1], strict=True):
        # Nobody reads before all has come.
        end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        end.bind((own, PORT))
        end.connect((other, PORT))
    return made[0], made[1]


@contextlib.contextmanager
def _flow(ends: tuple[socket.socket, ...]) -> Iterator[list[int]]:
    """Numbered packets both ways, COUNT at least, from before the block until after it."""
    sent: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not (over.is_set() and len(sent) >= COUNT):
            for end in ends:
                with contextlib.suppress(OSError):  # No route, where the wire is another one.
                    end.send(len(sent).to_bytes(4))
            sent.append(len(sent))
            time.sleep(PERIOD_S)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def _numbers(end: socket.socket, missing: set[int]) -> Iterator[int]:
    """What comes, as long as some are missing, and a moment longer: some may come twice."""
    with contextlib.suppress(TimeoutError):
        while True:
            end.settimeout(DEADLINE_S if missing else 1.0)
            number = int.from_bytes(end.recv(16))
            missing.discard(number)
            yield number


def _delay_ms(ends: tuple[socket.socket, socket.socket]) -> float:
    """Of the fastest of some packets there and back."""
    found = []
    for end in ends:
        end.settimeout(DEADLINE_S)
    for _ in range(10):
        began = time.monotonic()
        ends[0].send(b"ping")
        ends[1].recv(16)
        ends[1].send(b"pong")
        ends[0].recv(16)
        found.append((time.monotonic() - began) * 1e3)
    return min(found)


if __name__ == "__main__":
    main()
