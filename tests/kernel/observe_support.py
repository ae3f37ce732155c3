"""A plan's network made real, without an agent and without programs."""

from __future__ import annotations

from itertools import groupby

from lab.fabric import journal, teardown
from lab.fabric.journal import Journal
from lab.fabric.network import Network
from lab.paths import LabPaths
from lab.plan.diff import diff
from lab.plan.model import Plan
from lab.plan.operations import AnyOperation, Phase, phase


def build(paths: LabPaths, plan: Plan) -> None:
    """Namespaces, links, addresses and rules of `plan`."""
    notes = Journal.open(paths.journal)
    network = Network(paths, notes)
    try:
        for step, operations in groupby(diff(None, plan), key=phase):
            if step < Phase.SERVICES:
                network.carry_out(list(operations), _ignore)
    finally:
        network.close()
        notes.close()


def remove(paths: LabPaths) -> None:
    """Every namespace of the lab, however far `build` came."""
    teardown.remove_namespaces(journal.read(paths.journal))


def _ignore(operation: AnyOperation, seconds: float) -> None:
    """Nobody watches the progress."""
