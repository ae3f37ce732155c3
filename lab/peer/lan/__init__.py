"""Peers on one network find each other without servers.

`dns` is the codec that mDNS and LLMNR share, `neighbours` answers for this
peer by mDNS, LLMNR and SSDP, finds others, and carries signals to them.
"""
