"""Rule sets: what a node's NAT and firewall are in the kernel's words.

`render` is pure and writes text from the templates beside it; `load`, `reset`
and `flush` change the namespace that the calling thread is in.  Nothing here
knows how a namespace, a link or a lab comes to be.
"""

from lab.fabric.rules.loading import flush, load, reset
from lab.fabric.rules.rendering import render
from lab.fabric.rules.ruleset import RuleSet

__all__ = ["RuleSet", "flush", "load", "render", "reset"]
