"""Looking on while peers connect: packets, the rules that decide on them, mappings.

`Recorder` opens everything for the time of one attempt and closes it again;
nothing stands in the lab's namespaces before or after.  What it yields is data
of `lab.observe.explain.events`, which the rest of that package makes sense of.
"""

from lab.observe.capture.recorder import Recorder

__all__ = ["Recorder"]
