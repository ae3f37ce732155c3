"""Programs in nodes, by one contract (docs/contract.md) in two ways.

`process` runs them as plain processes forked from a warm interpreter
(`zygote`), `containers` as containers (`docker` speaks to the engine) whose program
waits at a `gate` until the network stands.  `contract` reads what they print,
`enter` takes a process into a node, `teardown` removes every program of a lab and
nothing else, `choose` and `images` decide what a built-in program runs in.

What a network looks like belongs to `lab.fabric`; what a peer does, to `lab.peer`.
"""
