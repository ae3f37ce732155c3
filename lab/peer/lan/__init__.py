"""Peers on one network find each other without servers.

`dns` is the codec that mDNS and LLMNR share, `neighbours` answers for this
peer by mDNS, LLMNR and SSDP, finds others, and carries signals to them.

`claim` is the state machine by which a host without an address comes by one
(RFC 3927), `autoip` its packets and the address on a real interface.
"""
