"""Sessions: a conversation of two peers that outlives the paths which carry it.

`wire` has frames and keys, `machine` the state machine without sockets or
clock, `rider` puts it on a path, `keeper` finds and repairs paths by
techniques, `follower` and `sessions` answer a keeper, `stream` is what is said.
How a path is found belongs to `lab.peer.traversal`.
"""
