"""Quantities as people write them: durations, rates, sizes, probabilities.

Each `parse_` function takes what YAML gave (text or a bare number) and
returns a number in the base unit; its `format_` mirror writes the shortest
text that parses to the same number.  A bare number is refused wherever its
unit could be guessed wrong.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, NoReturn

from lab.topology.character import Queue, QueueUnit
from lab.topology.problems import WrongValueError, show

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,18})?)\s*([A-Za-z/]*)", re.ASCII)

_DURATION = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_DURATION_WORDS = {"µs": "us", "μs": "us", "min": "m"}
_RATE = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_SIZE = {
    "B": 1,
    "kB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
}

DURATION_HELP = "durations: 250us, 20ms, 1.5s, 2m, 1h"
RATE_HELP = "rates, in bits per second: 64kbit, 10mbit, 1.5gbit, 8Mbit/s, or unlimited"
SIZE_HELP = "sizes: 512kB, 256MB, 1GiB (kB, MB, GB count in thousands, KiB, MiB, GiB in 1024s)"
QUEUE_HELP = "queues: 100 packets, 64kB, or 2 bdp (times rate and round trip)"
PROBABILITY_HELP = "probabilities: 1%, 0.5%, or a number from 0 to below 1 such as 0.01"


def parse_duration(value: Any) -> int:
    """Microseconds of "20ms", "1.5s", "250us", "2m", "1h"; 0 needs no unit.

    Raises WrongValueError, also for what is finer than a microsecond.
    """
    number, unit = _split(value, "a duration", DURATION_HELP)
    unit = _DURATION_WORDS.get(unit, unit)
    if not unit and not number:
        return 0
    if unit not in _DURATION:
        _bad_unit(value, unit, "duration", DURATION_HELP)
    return _whole(value, number * _DURATION[unit], "a microsecond", DURATION_HELP)


def format_duration(us: int) -> str:
    """The text of `us` microseconds: 20ms, 1.5s, 2h."""
    if us and us % _DURATION["h"] == 0:
        return f"{us // _DURATION['h']}h"
    if us and us % _DURATION["m"] == 0:
        return f"{us // _DURATION['m']}m"
    for unit in ("s", "ms"):
        if us >= _DURATION[unit]:
            return f"{_decimal(Decimal(us) / _DURATION[unit])}{unit}"
    return f"{us}us" if us else "0s"


def parse_rate(value: Any) -> int:
    """Bits per second of "10mbit", "8Mbit/s", "1gbit"; 0 for "unlimited".

    Raises WrongValueError, also for zero, which would let nothing pass.
    """
    if value == "unlimited":
        return 0
    number, unit = _split(value, "a rate", RATE_HELP)
    word = unit.lower().removesuffix("/s")
    if word.endswith("bps"):
        # tc reads mbps as megabytes, everybody else as megabits.
        raise WrongValueError(
            f"{show(value)} could mean bits or bytes",
            f"for bits write {number}{word.removesuffix('ps')}it",
        )
    if word not in _RATE and (word or number):
        _bad_unit(value, unit, "rate", RATE_HELP)
    rate = _whole(value, number * _RATE.get(word, 1), "a bit per second", RATE_HELP)
    if not rate:
        raise WrongValueError(
            "a rate of zero lets nothing pass", "leave it out, or write unlimited, for no limit"
        )
    return rate


def parse_size(value: Any) -> int:
    """Bytes of "256MB", "1GiB"; raises WrongValueError."""
    number, unit = _split(value, "a size", SIZE_HELP)
    if not unit and not number:
        return 0
    units = {name.lower(): factor for name, factor in _SIZE.items()}
    if unit.lower() not in units:
        _bad_unit(value, unit, "size", SIZE_HELP)
    return _whole(value, number * units[unit.lower()], "a byte", SIZE_HELP)


def format_size(size: int) -> str:
    """The text of `size` bytes, in the largest unit that divides it: 256MB, 1GiB."""
    for unit, factor in sorted(_SIZE.items(), key=lambda item: -item[1]):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return "0B"


def parse_probability(value: Any) -> float:
    """The probability of "1%", "0.5%" or 0.01; raises WrongValueError.

    A bare 1 is refused: it could mean one per cent or everything.
    """
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        number, unit = _split(text[:-1], "a probability", PROBABILITY_HELP, quoted=value)
        if unit or number > 100:
            raise WrongValueError(f"{show(value)} is not a probability", PROBABILITY_HELP)
        return float(number / 100)
    number, unit = _split(text, "a probability", PROBABILITY_HELP, quoted=value)
    if unit or number >= 1:
        raise WrongValueError(
            f"{show(value)} is not a probability",
            f"write {_decimal(number)}% if you mean that. {PROBABILITY_HELP}"
            if not unit and number <= 100
            else PROBABILITY_HELP,
        )
    return float(number)


_LONGEST_QUEUE = {QueueUnit.PACKETS: 1e7, QueueUnit.BYTES: 4e9, QueueUnit.BDP: 1e3}


def parse_queue(value: Any) -> Queue:
    """The length of a queue: "100 packets", "64kB", "2 bdp"; raises WrongValueError."""
    number, unit = _split(value, "the length of a queue", QUEUE_HELP)
    word = unit.lower()
    if word in ("packet", "packets"):
        length: float = _whole(value, number, "a packet", QUEUE_HELP)
        kind = QueueUnit.PACKETS
    elif word == "bdp":
        length, kind = float(number), QueueUnit.BDP
    elif word and word in {name.lower() for name in _SIZE}:
        length, kind = parse_size(value), QueueUnit.BYTES
    else:
        _bad_unit(value, unit, "queue", QUEUE_HELP)
    if not length:
        raise WrongValueError("a queue of nothing lets nothing pass", QUEUE_HELP)
    if length > _LONGEST_QUEUE[kind]:
        raise WrongValueError(
            f"{show(value)} is out of bounds",
            "a queue is at most 10000000 packets, 4GB or 1000 bdp",
        )
    return Queue(length=float(length), unit=kind)


def _split(value: Any, what: str, usage: str, quoted: Any = None) -> tuple[Decimal, str]:
    """The number and the unit of a quantity."""
    text = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{Decimal(repr(value)):f}"
    match = _QUANTITY.fullmatch(_ascii_unit(text).strip()) if isinstance(text, str) else None
    if match is None:
        raise WrongValueError(f"{show(quoted or value)} is not {what}", usage)
    return Decimal(match[1]), match[2]


def _ascii_unit(text: str) -> str:
    """`text` with either micro sign written as u."""
    for sign, plain in _DURATION_WORDS.items():
        if not sign.isascii():
            text = text.replace(sign, plain)
    return text


def _bad_unit(value: Any, unit: str, what: str, usage: str) -> NoReturn:
    fault = f"has the unknown unit '{unit}'" if unit else "has no unit"
    raise WrongValueError(f"the {what} {show(value)} {fault}", usage)


def _whole(value: Any, amount: Decimal, grain: str, usage: str) -> int:
    if amount != amount.to_integral_value():
        raise WrongValueError(f"{show(value)} is finer than {grain}", usage)
    return int(amount)


def _decimal(number: Decimal) -> str:
    """`number` without an exponent and without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
