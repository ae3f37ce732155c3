"""Why an attempt worked or failed, in a sentence or three, from what was seen alone."""

from __future__ import annotations

from lab.observe.explain.failure import failed
from lab.observe.explain.kept import changes, kept
from lab.observe.explain.success import worked
from lab.observe.explain.tale import Story


def sentence(tale: Story) -> str:
    """Why `tale` came out as it did."""
    if tale.capture.is_session:
        return kept(tale)
    why = worked(tale) if tale.connected else failed(tale)
    meanwhile = changes(tale)
    return f"{why} While it went on: {meanwhile}." if meanwhile else why
