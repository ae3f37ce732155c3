"""What makes the character of a link: losses, queues, distributions, traces."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ValidationInfo,
    WithJsonSchema,
)

from lab.topology.character import (
    Bursts,
    DataFile,
    Discipline,
    Distribution,
    LossPattern,
    Order,
    Queue,
)
from lab.topology.datafiles import find, parse_table, parse_trace
from lab.topology.forms.values import known_keys, one_word, word_schema
from lab.topology.problems import WrongValueError, each, one_of, show
from lab.topology.units import (
    PROBABILITY_HELP,
    QUEUE_HELP,
    parse_probability,
    parse_queue,
)

FOLDER = "folder"
"""Key of the validation context: the folder from which files are named."""

LOSS_HELP = (
    "losses: 1%, {p: 1%, r: 20%} for bursts (Gilbert-Elliott; good: and bad: are what each state "
    "loses, 0% and 100%), or '3,7,9 of 20' for a pattern"
)
_NO_TRACE = "none"
_LONGEST_PATTERN = 10_000
_PATTERN = re.compile(
    r"\s*([0-9]+(?:\s*,\s*[0-9]+)*)\s+of\s+(?:every\s+)?([0-9]{1,6})\s*", re.ASCII
)
_BURST_KEYS = ("p", "r", "good", "bad")
_DISTRIBUTIONS = tuple(word for word in Distribution if word is not Distribution.TABLE)


def _losses(value: Any) -> Any:
    if isinstance(value, Bursts | LossPattern):
        return value
    if isinstance(value, dict):
        return _bursts(value)
    if isinstance(value, str) and " of " in value:
        return _pattern(value)
    return parse_probability(value)


def _bursts(value: dict[str, Any]) -> Bursts:
    known_keys(value, _BURST_KEYS)
    given = dict(each(((key, (key, one)) for key, one in value.items()), _share))
    if "p" not in given or "r" not in given:
        raise WrongValueError("bursts need p and r", "write loss: {p: 1%, r: 20%}")
    bursts = Bursts(**given)
    if not bursts.r:
        raise WrongValueError(
            "a burst that begins never ends", "write r: 20% for bursts of 5 packets", ("r",)
        )
    if not bursts.p:
        raise WrongValueError(
            "no burst ever begins", "write p: 1%, or loss: 1% for single packets", ("p",)
        )
    if bursts.good >= bursts.bad:
        raise WrongValueError(
            "the good state loses as much as the bad one", "write good: 0% and bad: 100%"
        )
    return bursts


def _share(item: tuple[str, Any]) -> tuple[str, float]:
    return item[0], parse_probability(item[1])


def _pattern(value: str) -> LossPattern:
    match = _PATTERN.fullmatch(value)
    if match is None:
        raise WrongValueError(f"{show(value)} is not a pattern of losses", LOSS_HELP)
    lost = [int(word) for word in match[1].split(",")]
    of = int(match[2])
    if not 1 <= of <= _LONGEST_PATTERN:
        raise WrongValueError(
            f"a pattern of {of} packets is out of bounds", f"patterns are 1 to {_LONGEST_PATTERN}"
        )
    for place in lost:
        if not 1 <= place <= of:
            raise WrongValueError(
                f"of {of} packets there is no number {place}", f"places are 1 to {of}"
            )
    if sorted(set(lost)) != lost:
        raise WrongValueError(
            f"the places {match[1]} are not in order, or one is there twice",
            f"write '{','.join(map(str, sorted(set(lost))))} of {of}'",
        )
    return LossPattern(lost=tuple(lost), of=of)


def _folder(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get(FOLDER) or ".")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "." in value)


def _distribution(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, DataFile):
        return value
    if isinstance(value, str) and value in _DISTRIBUTIONS:
        return Distribution(value)
    if not _is_name(value):
        words = one_of(str(value), list(_DISTRIBUTIONS), "words")
        raise WrongValueError(
            f"unknown word {show(value)}", f"{words}; a file is written ./{value}"
        )
    file, data = find(value, _folder(info))
    parse_table(data)
    return file


def _trace(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, DataFile) or value == _NO_TRACE:
        return value
    if not isinstance(value, str) or not value:
        raise WrongValueError(f"{show(value)} names no file", "write trace: ./lte.down, or none")
    file, data = find(value, _folder(info))
    parse_trace(data)
    return file


_SHARE = {"type": ["string", "number"], "description": PROBABILITY_HELP}

LossesField = Annotated[
    float | Bursts | LossPattern,
    BeforeValidator(_losses),
    WithJsonSchema(
        {
            "description": LOSS_HELP,
            "anyOf": [
                {"type": ["string", "number"]},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["p", "r"],
                    "properties": dict.fromkeys(_BURST_KEYS, _SHARE),
                },
            ],
        }
    ),
]
QueueField = Annotated[
    Queue,
    BeforeValidator(parse_queue),
    WithJsonSchema({"type": "string", "description": QUEUE_HELP}),
]
OrderField = Annotated[
    Order,
    BeforeValidator(partial(one_word, Order)),
    word_schema(Order),
]
DisciplineField = Annotated[
    Discipline,
    BeforeValidator(partial(one_word, Discipline)),
    word_schema(Discipline),
]
DistributionField = Annotated[
    Distribution | DataFile,
    BeforeValidator(_distribution),
    WithJsonSchema({"anyOf": [{"enum": [*_DISTRIBUTIONS]}, {"type": "string"}]}),
]
TraceField = Annotated[DataFile | str, BeforeValidator(_trace), WithJsonSchema({"type": "string"})]
