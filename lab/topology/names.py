"""What may name a router, a node, a region or a topology."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
NAME_HELP = "names are a-z, 0-9 and -, begin with a letter, and have at most 31 characters"
