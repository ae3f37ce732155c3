"""What a person writes: the topology file, checked and understood.

Here live the file's schema, its units and terse forms, the presets, and the
loader whose every error names a line.  What the file means for namespaces,
addresses and rule sets does not live here: that is `lab.plan`.  Nothing here
touches the kernel or the network.
"""
