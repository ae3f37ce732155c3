"""The desired state of a lab: from a topology to a plan, from two plans to operations.

Everything here is pure: data in, data out, the same on every machine.  What
touches the kernel, a container engine, a file or a clock belongs to
`lab.fabric`, `lab.runtime` or `lab.agent`.
"""
