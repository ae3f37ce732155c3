"""lab: an emulated-network lab for peer-to-peer connectivity.

The package is laid out in layers, and imports point downward only
(docs/architecture.md has the picture)::

    cli -> study, observe, verify, agent -> runtime, fabric -> plan -> topology

`lab.peer` stands alone: it is the program inside a node.
"""

__version__ = "0.1.0"
