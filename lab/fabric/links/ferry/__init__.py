"""The ferry: a process that carries frames between TAP devices the way the model says.

`client` is what the agent holds; `protocol` what travels between the two.  In
the process (`__main__`), `engine` has the links, each of two ports (`port`), and
`loop` says whose turn it is.  Only `client` and `protocol`
are for others; nothing here makes devices (`lab.fabric.links.tap` does).
"""

from lab.fabric.links.ferry.client import Ferry
from lab.fabric.links.ferry.protocol import DirectionStats, FerryStats, Lateness, LinkStats

__all__ = ["DirectionStats", "Ferry", "FerryStats", "Lateness", "LinkStats"]
