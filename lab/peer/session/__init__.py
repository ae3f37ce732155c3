"""Sessions: a conversation of two peers that outlives the paths which carry it.

`wire` has frames and keys, `machine` the state machine without sockets or
clock, `rider` puts it on a path, `keeper` finds and repairs paths by
techniques, `follower` and `sessions` answer a keeper, `conversation` is what both
ends do, `report` what comes of it.
How a path is found belongs to `lab.peer.traversal`.
"""
