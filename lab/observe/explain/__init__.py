"""From what was seen of an attempt to what happened, and why: pure, no kernel, no clock.

`events` is what was seen; `packet` and `labels` read packets; `journeys` and
`stops` follow each through the network; `mappings` says what NATs made of
them; `story` finds the steps of the punch and `sentence` the cause; `arrange`
makes a `ladder` of it, which `text`, `svg` (with `geometry`, `style`, `arrows`
and `marks`) and `html` draw.
"""
