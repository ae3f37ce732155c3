"""The command line: one module a command, which parses, calls and prints.

No logic lives here.  Modules import what they need inside the command's
function, so that `lab --help` stays quick.
"""
