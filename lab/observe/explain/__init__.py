"""From what was seen of an attempt to what happened, and why: pure, no kernel, no clock.

`events` is what was seen, `packet` and `labels` read packets, `journeys`
follows each packet through the network, `mappings` says what NATs made of it,
`story` finds the steps and the cause, `ladder` arranges it, and `text`, `svg`
and `html` draw it.
"""
