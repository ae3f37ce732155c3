"""A reset: nothing of the plan changes, and it is carried out where rule sets are."""

from __future__ import annotations

from lab.plan.describe import describe
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.operations import Phase, ResetNode, phase
from lab.plan.progress import Running
from lab.topology.behaviour import Nat


def test_a_reset_changes_nothing_of_the_plan():
    home = Node(name="home", kind=NodeKind.ROUTER, nat=Nat(), wan="wan", lan="lan")
    running = Running(Plan(lab="x", nodes=(home,), links=()))
    reset = ResetNode(node=home)
    assert phase(reset) is Phase.RULES
    assert describe(reset) == "reset     home              flows and mappings forgotten"
    running.advance(reset)
    assert running.plan().nodes == (home,)
