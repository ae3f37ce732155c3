"""Whether the links of a running lab are what its plan claims, each by itself.

`traffic` sends frames of its own (`frames`) from one end of each link to the
other and stamps them, `quiet` and `loaded` tell from the stamps what the link
is like, with intervals (`intervals`, `expected`), and `measure` does all of it
for a whole lab.

Frames go from interface to interface, past every stack, firewall and bridge.
Nothing here changes a link, and nothing knows what carries it.
"""
