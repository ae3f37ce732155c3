"""The in-band service where peers register and pass messages to each other.

Here live its frames, both of its state machines and their sockets.  What the
messages say is the business of `lab.peer.traversal`; the service cannot read
more out of them than their size.
"""
