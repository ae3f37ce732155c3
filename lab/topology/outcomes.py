"""How an attempt to connect can end (docs/contract.md): the words of files, records and metrics."""

from __future__ import annotations

OUTCOMES = (
    "success",
    "reversed",
    "failure",
    "no-stream",
    "timed-out",
    "refused",
    "blocked",
    "unreachable",
    "unsupported",
    "cancelled",
    "failed",
)
CONNECTED = frozenset({"success", "reversed"})
"""Outcomes of an attempt that found a path (docs/contract.md)."""
