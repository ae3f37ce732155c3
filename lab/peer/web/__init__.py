"""HTTP/1.1 for a peer: messages without sockets, the connections that carry them, a web relay.

`message` is the codec, `websocket` the framing of RFC 6455: no I/O in these.
`connection` lends them a socket, directly or by way of a proxy; `requests` keeps
one for each method, `fetch` one for a single answer.  `tunnel` is the client's and
`relay` the relay's end of what the technique `http` speaks.
"""
