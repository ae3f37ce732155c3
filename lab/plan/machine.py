"""What the machine that a plan is made for can do.

The agent finds these facts out once; compilation only reads them, so that a
plan for another machine can be made and tested anywhere.
"""

from __future__ import annotations

from lab.topology.behaviour import Frozen, Runtime


class Machine(Frozen, frozen=True):
    """The facts about a machine that a plan depends on."""

    netem: bool = True
    """Whether the kernel has netem; without it the kernel can limit rates and no more."""
    netem_seed: bool = True
    """Whether its netem can be given a seed (Linux 6.6), so that a run can be repeated."""
    splice: bool = True
    """Whether the ferry can be put into a wire in use (`lab.fabric.splice`)."""
    containers: bool = False
    """Whether containers can run at all, whatever built-in programs run as."""
    limits: tuple[str, ...] = ()
    """Which of `memory` and `cpus` can be kept by programs that are processes."""
    runtime: Runtime = Runtime.PROCESS
    """How built-in programs run."""
    runtime_reason: str = ""
    """Why that one, as the end of a sentence: "no container engine answers"."""
    peer_image: str = "lab-peer"
    """The image of the built-in programs, for those that run as containers."""
