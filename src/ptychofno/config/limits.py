"""Whether a value keeps to the limits that the schema declares, and how to say what they are."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from typing import Any, NamedTuple, Union, get_args, get_origin

from ptychofno.config.errors import did_you_mean, shown
from ptychofno.config.schema import Pattern

_NOUNS = {int: ("an integer", "integers"), float: ("a number", "numbers"), str: ("some text", "texts")}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


class Violation(NamedTuple):
    """A refused value: ``where`` inside its setting (such as ``[1]``), and what was expected there."""

    where: str
    value: Any
    expected: str


def expectation(hint: Any, limits: Mapping[str, Any], value: Any = None) -> str:
    """What a field of type ``hint`` accepts, such as ``expected a number >= 0 and < 1``.

    ``value``, where it is known, only serves to name the nearest choice.
    """
    hint, optional = _without_none(hint)
    guess = ""
    if choices := limits.get("choices"):
        text = f"one of {', '.join(choices)}"
        guess = did_you_mean(str(value), choices)
    elif pattern := limits.get("pattern"):
        text = pattern.meaning
    elif hint is bool:
        text = "true or false"
    elif get_origin(hint) is list:
        text = f"a list of {_count(limits)}{_NOUNS[get_args(hint)[0]][1]}{_bounds(limits)}"
    else:
        text = f"{_NOUNS[hint][0] if hint in _NOUNS else 'settings'}{_bounds(limits)}"
    return f"expected {text}{' or null' if optional else ''}{guess}"


def element_of(hint: Any) -> Any:
    """The type of a list's elements."""
    return get_args(_without_none(hint)[0])[0]


def violation(value: Any, hint: Any, limits: Mapping[str, Any]) -> Violation | None:
    """How ``value``, already of type ``hint``, breaks the limits; None when it keeps to them."""
    if value is None:
        return None
    hint, _ = _without_none(hint)
    if get_origin(hint) is not list:
        return _scalar_violation(value, hint, limits)
    fewest, most = limits.get("length", (0, math.inf))
    if not fewest <= len(value) <= most:
        return Violation("", list(value), expectation(hint, limits))
    element = get_args(hint)[0]
    for i, entry in enumerate(value):
        if found := _scalar_violation(entry, element, limits):
            return found._replace(where=f"[{i}]")
    return None


def _scalar_violation(value: Any, hint: Any, limits: Mapping[str, Any]) -> Violation | None:
    if isinstance(value, float) and not math.isfinite(value):
        expected = expectation(hint, limits).replace("a number", "a finite number")
        return Violation("", value, expected)
    keeps = (
        value > limits.get("gt", -math.inf)
        and value >= limits.get("ge", -math.inf)
        and value < limits.get("lt", math.inf)
        and value <= limits.get("le", math.inf)
        if isinstance(value, (int, float))
        else value != ""
        and value in limits.get("choices", [value])
        and _matches(value, limits.get("pattern"))
    )
    return None if keeps else Violation("", value, expectation(hint, limits, value))


def _matches(value: Any, pattern: Pattern | None) -> bool:
    return pattern is None or re.fullmatch(pattern.regex, value) is not None


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    members = [member for member in get_args(hint) if member is not type(None)]
    assert len(members) == 1, f"{hint}: the schema knows no unions but with None"
    return members[0], True


def _bounds(limits: Mapping[str, Any]) -> str:
    bounds = [f"{sign} {shown(limits[name])}" for name, sign in _BOUNDS.items() if name in limits]
    return f" {' and '.join(bounds)}" if bounds else ""


def _count(limits: Mapping[str, Any]) -> str:
    if "length" not in limits:
        return ""
    fewest, most = limits["length"]
    if fewest == most:
        return f"{fewest} "
    return f"{fewest} to {most} " if math.isfinite(most) else f"{fewest} or more "
