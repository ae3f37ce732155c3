"""`python -m lab.peer`: the program inside a node."""

import sys

from lab.peer.main import run

sys.exit(run())
