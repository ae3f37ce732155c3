"""Peers on one network find each other without servers.

`dns` is the codec that mDNS and LLMNR share.  `naming` (mDNS), `uniqueness`
(LLMNR) and `presence` (SSDP) are what hosts agree on, as state machines
without I/O; `names` is all three for this peer, `said` what it says of itself
(also as a service of DNS-SD), and `telling` when, and to whom.  `neighbours`
finds others and carries signals to them.

`claim` is the state machine by which a host without an address comes by one
(RFC 3927), `autoip` its packets and the address on a real interface.
"""
