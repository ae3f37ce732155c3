"""HTTP/1.1 for a peer: messages without sockets, the connections that carry them, a web relay.

`message` is the codec, `websocket` the framing of RFC 6455, `parcels` what
long polling puts into bodies: no I/O in these.  `connection` lends them a
socket, directly or by way of a proxy; `tunnel` is the client's and `service`
the relay's end of what the technique `http` speaks.
"""
