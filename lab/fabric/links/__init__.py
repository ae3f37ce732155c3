"""Links: one model of what a wire does to packets, and the two backends that do it.

`model` is the model, pure; `kernel` has netem and TBF do the same; `tap` and
`ferry` do it in a process of ours where the kernel can't.  Nothing here knows
addresses, routes or rule sets.
"""
