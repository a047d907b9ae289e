"""Whether a value keeps to the type and the limits that are declared for it, and how to say what they are."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

from ptychofno.config.declared import Hint
from ptychofno.config.errors import did_you_mean, shown

_NOUNS = {int: ("an integer", "integers"), float: ("a number", "numbers"), str: ("some text", "texts")}
_BOUNDS = {
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
}


class Violation(NamedTuple):
    """A refused value: ``where`` inside its setting (such as ``[1]``), and what was expected there."""

    where: str
    value: Any
    expected: str


def expectation(hint: Hint, value: Any = None) -> str:
    """What a setting accepts, such as ``expected a number >= 0``; ``value`` finds the nearest choice."""
    guess = ""
    if hint.choices:
        text, guess = f"one of {', '.join(hint.choices)}", did_you_mean(str(value), hint.choices)
    elif hint.kind is bool:
        text = "true or false"
    elif hint.kind is list:
        element = hint.element or Hint()
        text = f"a list of {_count(hint)}{_noun(element)[1]}{_bounds(element)}"
    else:
        text = f"{_noun(hint)[0]}{_bounds(hint)}"
    return f"expected {text}{' or null' if hint.optional else ''}{guess}"


def converted(value: Any, hint: Hint) -> Any:
    """``value`` in the type that is declared (1 is 1.0 for a number), or the Violation that it is."""
    if hint.kind is None or (value is None and hint.optional):
        return value
    if hint.kind is not list:
        return _scalar(value, hint)
    fewest, most = _length(hint)
    if not (isinstance(value, list) and fewest <= len(value) <= (math.inf if most is None else most)):
        return Violation("", value, expectation(hint))
    entries = [converted(entry, hint.element or Hint()) for entry in value]
    for index, entry in enumerate(entries):
        if isinstance(entry, Violation):
            return entry._replace(where=f"[{index}]")
    return entries


def _scalar(value: Any, hint: Hint) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    refused = Violation("", value, expectation(hint, value))
    if hint.kind is str:
        text = str(value) if number else value
        return text if isinstance(text, str) and text != "" and text in (hint.choices or [text]) else refused
    if hint.kind not in (int, float):
        return value if hint.kind is not None and isinstance(value, hint.kind) else refused
    if not number or (hint.kind is int and isinstance(value, float)):
        return refused
    if not math.isfinite(value):
        return refused._replace(expected=refused.expected.replace("a number", "a finite number"))
    keeps = all(compare(value, hint.limits[name]) for name, (_, compare) in _limits_of(hint))
    return hint.kind(value) if keeps else refused


def _limits_of(hint: Hint) -> list[tuple[str, Any]]:
    return [(name, bound) for name, bound in _BOUNDS.items() if name in hint.limits]


def _noun(hint: Hint) -> tuple[str, str]:
    return _NOUNS.get(hint.kind, ("settings", "values")) if hint.kind else ("settings", "values")


def _bounds(hint: Hint) -> str:
    bounds = [f"{sign} {shown(hint.limits[name])}" for name, (sign, _) in _limits_of(hint)]
    return f" {' and '.join(bounds)}" if bounds else ""


def _length(hint: Hint) -> tuple[int, int | None]:
    fewest, *most = hint.limits.get("length", (0,))
    return fewest, most[0] if most else None


def _count(hint: Hint) -> str:
    fewest, most = _length(hint)
    if fewest == most:
        return f"{fewest} "
    if most is None:
        return f"{fewest} or more " if fewest else ""
    return f"{fewest} to {most} "
