"""Regions of the internet and the round trips between them: `internet: {regions: ...}`.

A matrix is a mapping of mappings (in the file itself, or in a YAML file), or a
table in a CSV file.  Each round trip is written once or, alike, from both
ends; that of a region with itself is between two attachments in it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.topology.compose import parse
from lab.topology.datafiles import find
from lab.topology.document import plain
from lab.topology.model import Regions
from lab.topology.names import NAME, NAME_HELP
from lab.topology.problems import TopologyError, WrongValueError, nearest, one_of, show
from lab.topology.units import DURATION_HELP, parse_duration

_PRESETS = Path(__file__).parent / "presets" / "regions.yaml"
_LONGEST_US = 3_600_000_000
_MAX_REGIONS = 256
_HELP = "name a matrix, a file (./rtt.csv, ./rtt.yaml), or write europe: {europe: 8ms, asia: 180ms}"
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


def regions(value: Any, folder: Path) -> Regions:
    """The regions that `value` means: a preset's name, a file seen from `folder`, a mapping.

    Raises WrongValueError; its `at` is the place in a mapping.
    """
    if isinstance(value, dict):
        return _matrix(value)
    if not isinstance(value, str):
        raise WrongValueError(f"{show(value)} is no matrix of regions", _HELP)
    if "/" not in value and "." not in value:
        presets: dict[str, Any] = plain(parse(_PRESETS.read_text(), str(_PRESETS)).root)
        if value not in presets:
            raise WrongValueError(
                f"there is no matrix {show(value)}", f"{nearest(value, presets)} {_HELP}".strip()
            )
        return _matrix(presets[value]["behaviour"], source=presets[value]["source"])
    file, data = find(value, folder)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise WrongValueError(f"{value} is not text", _HELP) from None
    return _of_csv(text, file.path) if value.endswith(".csv") else _of_yaml(text, file.path)


def _of_yaml(text: str, path: str) -> Regions:
    document = parse(text, path)
    try:
        document.raise_problems()
        raw = plain(document.root)
        if not isinstance(raw, dict):
            raise WrongValueError(f"it is {show(raw)}, and has to be a mapping", _HELP)
        return _matrix(raw, source=path)
    except WrongValueError as error:
        raise WrongValueError(
            f"{document.where(error.at)}: {error.message}", error.remedy
        ) from None
    except TopologyError as error:
        raise WrongValueError(str(error).splitlines()[0], "correct the file") from None


def _of_csv(text: str, path: str) -> Regions:
    rows = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(csv.reader(io.StringIO(text)), 1)
        if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
    ]
    if not rows:
        raise WrongValueError(f"{path} is empty", "the first line names the regions: ,europe,asia")
    (_, head), *body = rows
    raw: dict[Any, dict[Any, Any]] = {}
    lines: dict[Any, int] = {}
    for number, (name, *cells) in body:
        if len(cells) > len(head) - 1 or name in raw:
            what = f"{show(name)} comes twice" if name in raw else "there are more cells than names"
            raise WrongValueError(f"{path}:{number}: {what}", "a line for each region of the first")
        lines[name] = number
        raw[name] = {
            other: f"{cell}ms" if _NUMBER.fullmatch(cell) else cell
            for other, cell in zip(head[1:], cells, strict=False)
            if cell
        }
    try:
        return _matrix({name: raw.get(name, {}) for name in (*head[1:], *raw)}, source=path)
    except WrongValueError as error:
        line = lines.get(error.at[0], rows[0][0]) if error.at else rows[0][0]
        raise WrongValueError(f"{path}:{line}: {error.message}", error.remedy) from None


def _matrix(raw: Mapping[Any, Any], source: str = "") -> Regions:
    names = list(raw)
    if len(names) > _MAX_REGIONS:
        raise WrongValueError(
            f"{len(names)} regions are too many", f"there are at most {_MAX_REGIONS}"
        )
    cells: dict[tuple[str, str], int] = {}
    for name, row in raw.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise WrongValueError(f"{show(name)} can't name a region", NAME_HELP, at=(name,))
        if not isinstance(row, dict):
            raise WrongValueError(f"the row of {name} is {show(row)}", _HELP, at=(name,))
        for other, value in row.items():
            if other not in raw:
                raise WrongValueError(
                    f"{name} has a round trip to {show(other)}, which has no row of its own",
                    one_of(str(other), names, "regions"),
                    at=(name, other),
                )
            cells[name, other] = _round_trip(name, other, value)
    return Regions(
        names=tuple(names),
        rtt_us=tuple(tuple(_cell(cells, one, other) for other in names) for one in names),
        source=source,
    )


def _round_trip(name: str, other: str, value: Any) -> int:
    at = (name, other)
    if isinstance(value, int | float | str) and str(value).strip().startswith("-"):
        raise WrongValueError(
            f"the round trip from {name} to {other} is negative: {show(value)}",
            "write how long it takes: 80ms",
            at=at,
        )
    try:
        us = parse_duration(value)
    except WrongValueError as error:
        raise WrongValueError(error.message, error.remedy, at=at) from None
    if us > _LONGEST_US:
        raise WrongValueError(f"{show(value)} is too long", DURATION_HELP, at=at)
    return us


def _cell(cells: Mapping[tuple[str, str], int], one: str, other: str) -> int:
    """The round trip between two regions; WrongValueError if there is none, or there are two."""
    there, back = cells.get((one, other)), cells.get((other, one))
    if there is None and back is None:
        what = f"between {one} and {other}" if one != other else f"within {one}"
        raise WrongValueError(
            f"the matrix has no round trip {what}", f"write {one}: {{{other}: 20ms}}", at=(one,)
        )
    if there is not None and back is not None and there != back:
        raise WrongValueError(
            f"the round trip between {one} and {other} is {there / 1000:g} ms from the one and "
            f"{back / 1000:g} ms from the other",
            "a round trip is the same from both ends: write it once",
            at=(one, other),
        )
    us = there if there is not None else back or 0
    within = [cells.get((name, name), 0) for name in (one, other)]
    if one != other and 2 * us < sum(within):
        raise WrongValueError(
            f"{one} and {other} are {us / 1000:g} ms apart, less than what is within them",
            f"write at least {sum(within) / 2000:g}ms",
            at=(one, other) if there is not None else (other, one),
        )
    return us
