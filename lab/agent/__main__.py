"""`python -m lab.agent FD`: the background process of one lab (see `lab.agent.server`)."""

from __future__ import annotations

import sys

from lab.agent.server import main

sys.exit(main(int(sys.argv[1])))
