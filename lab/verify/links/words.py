"""Findings about links in words: `20.1 ms (19.9 to 20.4)`."""

from __future__ import annotations

from dataclasses import dataclass

from lab.verify.report import LinkDimension, LinkFinding, LinkVerdict

NOTHING = "none"
UNLIMITED = "unlimited"
_RATES = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))


@dataclass(frozen=True, slots=True)
class Interval:
    """What was measured, and between what the truth lies; `high` None for no limit."""

    value: float
    low: float
    high: float | None


def finding(  # noqa: PLR0917 - a finding has these fields, in this order
    where: tuple[str, str, str],
    dimension: LinkDimension,
    declared: float | None,
    seen: Interval,
    unit: str,
    samples: int,
    *,
    ok: bool,
    extra: str = "",
    distorted: str = "",
) -> LinkFinding:
    """A finding about a link and direction (title, name, way); `extra` follows what is declared.

    If it differs and there is a reason to call that `distorted`, it is that.
    """
    verdict = LinkVerdict.AS_DECLARED
    if not ok:
        verdict = LinkVerdict.DISTORTED if distorted else LinkVerdict.DIFFERS
    return LinkFinding(
        link=where[0],
        name=where[1],
        way=where[2],
        dimension=dimension,
        declared=said(declared, unit) + extra,
        observed=_observed(seen, unit),
        unit=unit,
        declared_value=declared,
        observed_value=seen.value,
        low=seen.low,
        high=seen.high,
        samples=samples,
        verdict=verdict,
        detail=distorted if verdict is LinkVerdict.DISTORTED else "",
    )


def unmeasured(  # noqa: PLR0917 - as `finding`
    where: tuple[str, str, str],
    dimension: LinkDimension,
    declared: float | None,
    unit: str,
    why: str,
    shown: str = "",
) -> LinkFinding:
    """That this was not measured, and why; `shown` stands for what is declared."""
    return LinkFinding(
        link=where[0],
        name=where[1],
        way=where[2],
        dimension=dimension,
        declared=shown or said(declared, unit),
        observed="not measured",
        unit=unit,
        declared_value=declared,
        observed_value=None,
        low=None,
        high=None,
        samples=0,
        verdict=LinkVerdict.UNMEASURED,
        detail=why,
    )


def said(value: float | None, unit: str) -> str:
    """A figure with its unit; `none` for nothing and `unlimited` for None."""
    if value is None:
        return UNLIMITED
    if not value:
        return NOTHING
    scale, name = _scale(value, unit)
    return f"{_number(value / scale)} {name}"


def _observed(seen: Interval, unit: str) -> str:
    largest = max(abs(seen.value), abs(seen.high if seen.high is not None else 0.0))
    scale, name = _scale(largest, unit)
    if seen.high is None:
        return f"{_number(seen.low / scale)} {name} or more"
    value, low, high = (_number(one / scale) for one in (seen.value, seen.low, seen.high))
    return f"{value} {name}" if low == high else f"{value} {name} ({low} to {high})"


def _scale(value: float, unit: str) -> tuple[float, str]:
    match unit:
        case "s":
            return (1.0, "s") if value >= 1 else (1e-3, "ms")
        case "share":
            return 0.01, "%"
        case "bit/s":
            return next(((size, name) for size, name in _RATES if value >= size), (1.0, "bit/s"))
    return 1.0, unit


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
