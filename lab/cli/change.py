"""How commands that change a running lab have it done and say what was done."""

from __future__ import annotations

from typing import Any


def change(lab_name: str | None, request: Any) -> dict[str, Any]:
    """Have the agent make one change; what it says of it."""
    from lab.agent.client import result
    from lab.cli.labs import choose
    from lab.topology.changes import changes_to_wire

    order = {"do": "change", "changes": changes_to_wire([request])}
    answer: dict[str, Any] = result(choose(lab_name), order)
    return answer


def tell(answer: dict[str, Any], *, as_json: bool) -> None:
    """Say what was changed."""
    from lab.cli.terminal import print_json, say

    if as_json:
        print_json(answer)
        return
    for what in answer["what"]:
        say(f"{what} ({answer['seconds'] * 1000:.0f} ms)")
    for note in answer["notes"]:
        say(f"  {note}")
