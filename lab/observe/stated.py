"""Data of a plan for programs that read it: nothing is left out for being usual."""

from __future__ import annotations

from typing import Any

import msgspec


def stated(data: Any) -> Any:
    """`data` as JSON-ready data with every field, also where it is the default."""
    if isinstance(data, msgspec.Struct):
        return {field: stated(getattr(data, field)) for field in data.__struct_fields__}
    if isinstance(data, list | tuple):
        return [stated(item) for item in data]
    return msgspec.to_builtins(data)
