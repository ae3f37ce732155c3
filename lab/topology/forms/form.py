"""The base of all mappings in a topology file."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    model_validator,
)


class Form(BaseModel):
    """Base of all mappings in a file: no unknown keys, no conversion of types.

    `terse` is the key that a single word stands for, if one may stand for the
    mapping.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        arbitrary_types_allowed=True,
        validate_default=False,
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
    )
    terse: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_terse(cls, value: Any) -> Any:
        if cls.terse and isinstance(value, str | int | float) and not isinstance(value, bool):
            return {cls.terse: value}
        return value
