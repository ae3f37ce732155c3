"""STUN (RFC 8489, RFC 5780, RFC 3489): codec, client transaction, server.

Here live messages and what one query or one server does with them.  What is
built on STUN lives elsewhere: `relay` (TURN) and `traversal` (punching).
"""
