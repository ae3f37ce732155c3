"""The command line: one module a command, which parses, calls and prints.

No logic lives here.  Modules import what they need inside the command's
function, so that `lab --help` stays quick.

What several commands share has a module too: which lab is meant (`labs`, `claim`,
`scratch`) and which two peers (`pair`), how a file becomes a plan (`planning`), how
a change is ordered (`change`), what goes on in a lab meanwhile (`course`), what the
kernel holds (`standing`), and how all of it is said (`terminal`).
"""
