"""Why an attempt worked or failed, in a sentence or three, from what was seen alone."""

from __future__ import annotations

from lab.observe.explain.failure import failed
from lab.observe.explain.story import Story
from lab.observe.explain.success import worked


def sentence(tale: Story) -> str:
    """Why `tale` came out as it did."""
    return worked(tale) if tale.connected else failed(tale)
