"""One lab of two homes whose routers take turns, and what peers find in it."""

from __future__ import annotations

import secrets
from functools import partial

from lab.agent import client
from lab.plan.model import encode
from lab.study.matrix import CALLEE, CALLER, Home, facing
from lab.topology.behaviour import Dependence, Nat, PortPolicy, Ports

CONE, BY_ADDRESS, BY_PORT = Dependence
RANDOM, SEQUENTIAL = Ports(policy=PortPolicy.RANDOM), Ports(policy=PortPolicy.SEQUENTIAL)
FULL = Nat(mapping=CONE, filtering=CONE, ports=RANDOM)
STRICT = Nat(mapping=CONE, filtering=BY_PORT, ports=RANDOM)
SYMMETRIC = Nat(mapping=BY_PORT, filtering=BY_PORT, ports=RANDOM)
COUNTING = Nat(mapping=BY_PORT, filtering=BY_PORT, ports=SEQUENTIAL)
PATIENT = {"window_s": 15.0}
"""For attempts that are to succeed, however late a program gets its processor."""


def unique(purpose: str) -> str:
    return f"t-{purpose}-{secrets.token_hex(3)}"


class Homes:
    """A running lab of `lab.study.matrix.two_homes`, or one with the same names."""

    def __init__(self, plan, paths):
        self.plan = plan
        self.paths = paths
        self.ask = partial(client.ask, paths)

    def use(self, caller: Nat, callee: Nat) -> None:
        """Give the homes these NATs; what the old ones had learned is gone with their ports."""
        self.plan = facing(
            self.plan, Home(name="caller", nat=caller), Home(name="callee", nat=callee)
        )
        for _ in self.ask({"do": "apply", "plan": encode(self.plan).decode()}):
            pass

    def connect(self, *techniques: str, first=False, goodput_s=0.0, timeout_s=20.0, **options):
        """The records of one order."""
        order = {
            "do": "connect", "local": CALLER, "remote": CALLEE, "techniques": techniques,
            "first": first, "timeout_s": timeout_s, "goodput_s": goodput_s, "options": options,
        }  # fmt: skip
        return [answer["record"] for answer in self.ask(order) if answer.get("event") == "attempt"]
