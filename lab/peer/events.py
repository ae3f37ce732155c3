"""What a program tells the lab: JSON lines on standard output (docs/contract.md)."""

from __future__ import annotations

import errno
import json
import sys
from typing import Any


def emit(event: str, **more: Any) -> None:
    """Write one JSON line of the contract.

    Raises OSError if it is `ready` that finds no space: who waits for it would
    wait in vain.
    """
    line = json.dumps({"event": event, **more}, separators=(",", ":")) + "\n"
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except OSError as error:
        # Nobody may be listening any more; peers go on without.
        if event == "ready" and error.errno == errno.ENOSPC:
            raise
