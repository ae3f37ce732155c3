"""Relaying (TURN, RFC 8656): client, server, and the service around the server.

The server is the subset that peers need: UDP relays for clients that come
over UDP or TCP.  How a relay is used to connect two peers is written in
`lab.peer.traversal.relay`.
"""
