"""The background process of a lab, and the command line's way to talk to it.

One agent per lab holds what must live on: the ferry, the prefork server, the
exporter, the record of attempts.  It owns no truth: the journal and the plan
on disk are enough for `lab down` to remove everything without it.
"""
