"""Ordinary peers as relays: whether one is fit for it, and how it carries packets of a pair.

Here live the conditions and the election, the packets by which two peers join,
the carrier without its sockets and the sockets.  How a caller finds a volunteer
and uses it is the business of `lab.peer.traversal.relay_peer`; who volunteers is
known to the rendezvous service (`lab.peer.rendezvous`).
"""
