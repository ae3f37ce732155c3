"""Getting two peers connected: attempts, techniques, and proof that a path works.

`seal` and `prober` are the protocol between two peers on a path, `signals`
what they tell each other through the rendezvous service, `technique` the
registry.  Each technique is a module of its own and uses only what a peer on
the Internet could know.
"""
