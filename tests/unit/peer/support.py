"""Programs of a lab as subprocesses on loopback addresses: each address is a host."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signals import Offer

WAIT_S = 30.0


def network() -> str:
    """A /24 of the loopback network that no other test is likely to use."""
    draw = random.SystemRandom()
    return f"127.{draw.randint(16, 250)}.{draw.randint(1, 250)}"


def an_offer(attempt: bytes, details: Mapping[str, Any]) -> Offer:
    """What alice offers to bob, who has nowhere to send to."""
    return Offer(
        attempt=attempt,
        technique="udp-punch",
        sender="alice",
        to="bob",
        ephemeral=Agreement().ephemeral,
        candidates=(),
        window_s=1.0,
        details=details,
    )


class Program:
    """One `python -m lab.peer`, ready when the constructor returns."""

    def __init__(
        self,
        folder: Path,
        name: str,
        role: str,
        address: str,
        *,
        wait: bool = True,
        prefix: tuple[str, ...] = (),
        **env: str,
    ):
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self._heard = b""
        self.stderr = (self.folder / "err.log").open("wb")
        contract = {
            "LAB_NAME": "t",
            "LAB_NODE": name,
            "LAB_SEED": "7",
            "LAB_ROLE": role,
            "LAB_DIR": str(self.folder),
            "LAB_ADDRESSES": address,
        }
        keep = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "lab.peer"],
            env={**keep, **contract, **env},
            stdout=subprocess.PIPE,
            stderr=self.stderr,
        )
        if wait:
            try:
                self.event("ready")
            except BaseException:
                self.stop()
                raise

    def event(self, kind: str) -> dict:
        """The next event of that kind on standard output."""
        deadline = time.monotonic() + WAIT_S
        stream = self.process.stdout.fileno()
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                event = json.loads(line)
                if event["event"] == kind:
                    return event
                continue
            readable, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
            data = os.read(stream, 65536) if readable else b""
            if not data:
                errors = (self.folder / "err.log").read_text()
                raise AssertionError(f"{self.name}: no {kind!r}; {errors}")
            self._heard += data

    def order(self, **order: object) -> list[dict]:
        """Give an order; every answer to it, the last one included."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(str(self.folder / "control.sock"))
            sock.sendall(json.dumps({"id": 1, **order}).encode() + b"\n")
            answers = []
            with sock.makefile() as lines:
                for line in lines:
                    answers.append(json.loads(line))
                    if answers[-1].get("done"):
                        return answers
        raise AssertionError(f"{self.name} left the order unanswered: {answers}")

    def connect(self, peer: str, *techniques: str, **more: object) -> list[dict]:
        """The records of one order to connect."""
        answers = self.order(do="connect", peer=peer, techniques=list(techniques), **more)
        assert "error" not in answers[-1], answers
        return [answer["record"] for answer in answers[:-1]]

    def stop(self) -> int:
        """End it by SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            # It may have more to say than a pipe holds, and ends when that is said.
            self.process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.stderr.close()
        return self.process.returncode
