"""What a user got wrong, in one line."""

from __future__ import annotations

import difflib
import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ptychofno.display.text import printable


class ConfigError(ValueError):
    """A mistake in the configuration. The command line prints its one line and exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))  # it may quote a file of somebody else's


class Held(ConfigError):
    """Another process is at this run already."""


@contextmanager
def exit_codes(*, silent: bool = False) -> Iterator[None]:
    """Around all that a command does: 2 and a line on stderr for a ConfigError, 130 for Ctrl-C, 141 for no
    reader.

    No matter what the terminal, notebook or service that starts it has set up. ``silent`` says that another
    process tells of the mistake.
    """
    os.environ["MPLBACKEND"] = "agg"  # figures only go to files; a notebook's backend is not installed here
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a plain terminal must not end a run
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        leave_unread()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except ConfigError as error:
        if not silent:
            print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 128 + signal.SIGINT:
            raise
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # pressed again, it would cut the end of this process off
        raise SystemExit(128 + signal.SIGINT) from None


def leave_unread() -> None:
    """Whoever read stdout has left, as ``head`` does: what is still to be written at exit goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice that ``name`` was probably meant to be, if any is close."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``; did you mean X?`` for the nearest choice, or nothing."""
    guess = nearest(name, choices)
    return f"; did you mean {guess}?" if guess else ""


def one_of(name: str, choices: Iterable[str]) -> str:
    """``expected one of A, B, C`` with the nearest choice."""
    choices = list(choices)
    return f"expected one of {', '.join(choices)}{did_you_mean(name, choices)}"


def shown(value: Any) -> str:
    """A value as one would type it on the command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{shown(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)
