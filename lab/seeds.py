"""One seed, many independent streams (docs/architecture.md, "One seed").

Every random choice draws from a stream named after its purpose, so that
adding a choice somewhere never changes the numbers drawn elsewhere.
"""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, *purpose: str) -> int:
    """A 63-bit seed for `purpose`, a function of `seed` and the words alone."""
    text = "\x1f".join((str(seed), *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def stream(seed: int, *purpose: str) -> random.Random:
    """A random stream of its own for `purpose`; equal arguments give equal streams."""
    return random.Random(derive(seed, *purpose))  # noqa: S311 - reproducible, not secret
