"""What pydantic says about a file, in the words and at the lines of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from lab.topology.document import Document, Loc
from lab.topology.forms.file import FileForm
from lab.topology.forms.form import Form
from lab.topology.forms.node import NodeForm
from lab.topology.forms.router import RouterForm
from lab.topology.problems import WrongValueError, WrongValuesError, nearest, one_of, show

_TYPES = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_QUOTED = re.compile(r"'([^']*)'")


def report_validation(document: Document, error: ValidationError) -> list[Loc]:
    """Report everything in `error`; return the places that are unusable."""
    locs = []
    for fault in error.errors(include_url=False):
        loc = tuple(fault["loc"])
        locs.append(loc)
        context = fault.get("ctx", {})
        match context.get("error"):
            case WrongValueError() as wrong:
                causes: tuple[WrongValueError, ...] = (wrong,)
            case WrongValuesError() as several:
                causes = several.errors
            case _:
                message, remedy = _words(fault["type"], loc, fault.get("input"), context)
                document.report(loc, message, remedy)
                continue
        for cause in causes:
            document.report((*loc, *cause.at), f"{_dotted(loc)}: {cause.message}", cause.remedy)
    return locs


def _words(kind: str, loc: Loc, value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    """Message and remedy of one fault."""
    name = _dotted(loc)
    if kind == "extra_forbidden":
        return _unknown_key(loc)
    if kind == "missing":
        owner = _dotted(loc[:-1]) or "the file"
        if loc[-1] == "via":
            return f"{owner} is attached to nothing", "give it via: internet, or via: a router"
        return f"{owner} has no {loc[-1]}", f"write {loc[-1]}: ..."
    if kind in _TYPES:
        return _wrong_type(kind, loc, value)
    if kind == "literal_error":
        words = _QUOTED.findall(str(context.get("expected", "")))
        if not words:  # It can only be true: what does not happen is not in the list.
            return f"{name} is {show(value)}", f"write {loc[-1]}: true, or leave the entry out"
        return f"{name}: unknown word {show(value)}", one_of(str(value), words, "words")
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = context.get("ge", context.get("le"))
        side = "least" if "ge" in context else "most"
        return f"{name}: {show(value)} is out of bounds", f"write at {side} {bound}"
    return f"{name}: {show(value)} can't be used ({kind.replace('_', ' ')})", ""


def _wrong_type(kind: str, loc: Loc, value: Any) -> tuple[str, str]:
    wanted, terse = _TYPES[kind], ""
    form = _form_at(loc)
    if form is not None and form.terse:
        wanted, terse = f"a word or {wanted}", f"a word stands for its '{form.terse}'; "
    keys = f"keys: {', '.join(_keys(form))}" if form is not None else ""
    if loc in (("routers",), ("nodes",), ("switches",)):
        keys = f"write each by its name: {loc[0]}: {{a: ..., b: ...}}"
    message = f"{_dotted(loc)} is {show(value)}, and has to be {wanted}"
    if wanted == "text" and isinstance(value, int | float) and not isinstance(value, bool):
        return message, f'put it in quotes if you mean it: "{value}"'
    if wanted == "text" and isinstance(value, list):
        return message, "write one; what happens to several is several entries"
    return message, terse + keys or f"write {wanted}"


def _unknown_key(loc: Loc) -> tuple[str, str]:
    key, owner = str(loc[-1]), _dotted(loc[:-1])
    form = _form_at(loc[:-1])
    words = _keys(form) if form is not None else []
    message = f"unknown key {show(key)}" + (f" in {owner}" if owner else "")
    near = nearest(key, words)
    other = NodeForm if form is RouterForm else RouterForm if form is NodeForm else None
    if not near and other is not None and key in _keys(other):
        kind, section = ("node", "nodes") if other is NodeForm else ("router", "routers")
        return message, f"that is for a {kind}, under {section}:"
    return message, one_of(key, words, "keys") if words else "a switch is its name and no more"


def _keys(form: type[Form]) -> list[str]:
    return [str(field.alias or name) for name, field in form.model_fields.items()]


def _form_at(loc: Loc) -> type[Form] | None:
    """The class of the mapping at `loc` in a file; None if it is not one of ours."""
    here: Any = FileForm
    for step in loc:
        if isinstance(here, type) and issubclass(here, Form):
            fields = {field.alias or name: field for name, field in here.model_fields.items()}
            if step not in fields:
                return None
            here = _bare(fields[str(step)].annotation)
        else:
            # A mapping of names or a list: the last argument is what it holds.
            arguments = get_args(here)
            if not arguments:
                return None
            here = _bare(arguments[-1])
    return here if isinstance(here, type) and issubclass(here, Form) else None


def _bare(annotation: Any) -> Any:
    """`annotation` without its `| None`."""
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    return arguments[0] if type(None) in get_args(annotation) else annotation


def _dotted(loc: Loc) -> str:
    return ".".join(show(step).strip("'") if isinstance(step, str) else str(step) for step in loc)
