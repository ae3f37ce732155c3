"""The lines of `lab events`: what happened in a lab, for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lab.observe import sessions
from lab.observe.words import latency

_FORM = "{:<12}  {:>10}  {:<14}  {}"


def heading() -> str:
    """What stands above the lines."""
    return _FORM.format("TIME", "SINCE UP", "EVENT", "WHAT")


def line(event: Mapping[str, Any]) -> str:
    """One event; what is not known of it is left out."""
    at, since = float(event.get("at", 0)), event.get("since_up_s")
    clock = time.strftime("%H:%M:%S", time.localtime(at)) + f"{at % 1:.3f}"[1:]
    passed = f"{since:.3f} s" if isinstance(since, int | float) else ""
    return _FORM.format(clock, passed, str(event.get("event", "")), _what(event)).rstrip()


def _what(event: Mapping[str, Any]) -> str:
    seconds = latency(event.get("seconds"))
    match event.get("event"):
        case "up":
            return f"{event.get('nodes')} nodes, {event.get('links')} links, in {seconds}"
        case "changed":
            what = "; ".join(event.get("what", ())) or f"{event.get('operations')} operations"
            return f"{what}, by {event.get('by')}, in {seconds}"
        case "timeline":
            return _moment(event, seconds)
        case "timeline-ended":
            return "nothing more will happen by itself"
        case "failed":
            return str(event.get("error", ""))
        case "session":
            return f"{event.get('node')} and {event.get('peer')}: {sessions.words(event)}"
        case "exited":
            last = f": {event['last']}" if event.get("last") else ""
            return f"the program of {event.get('node')}, with code {event.get('code')}{last}"
    rest = {key: value for key, value in event.items() if key not in ("at", "since_up_s", "event")}
    return ", ".join(f"{key} {value}" for key, value in rest.items())


def _moment(event: Mapping[str, Any], seconds: str) -> str:
    what = "; ".join(event.get("what", ()))
    times = f"planned {event.get('planned_s'):.3f}, began {event.get('actual_s'):.3f}"
    match event.get("outcome"):
        case "failed":
            return f"{what}: failed: {event.get('error')} ({times})"
        case "skipped":
            return f"{what}: not undone, as it was changed meanwhile ({times})"
    undone = "undone: " if event.get("undo") else ""
    return f"{undone}{what} ({times}, took {seconds})"
