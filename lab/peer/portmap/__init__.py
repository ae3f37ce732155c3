"""Asking the router for a port: UPnP IGD, NAT-PMP (RFC 6886), PCP (RFC 6887).

`natpmp`, `pcp`, `ssdp` and `igd` are codecs without sockets; `gateway` finds
the router as any program would, `ask` speaks to it, and `lease` is what all
three protocols grant.
"""
