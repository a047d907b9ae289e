"""How far a sweep is. Every process that does one of its jobs counts into the same file."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from ptychofno.display.text import duration


@dataclass(frozen=True)
class Progress:
    """The place of a job in its sweep.

    Attributes:
        tally: a file with the seconds of every job that has ended, a line each.
        jobs: how many there are. at_once: how many run side by side; None where that is not known.
        begun_s, job_begun_s: when the sweep and this job began, in the seconds of ``time.time``.
    """

    tally: Path
    jobs: int
    at_once: int | None
    begun_s: float
    job_begun_s: float = 0.0

    def ended(self) -> tuple[str, str]:
        """Count this job. Gives ``[3/22] ``, of those that have ended, and ``, about 14 min left``."""
        now = time.time()
        try:
            with self.tally.open("ab") as file:
                file.write(b"%.3f\n" % (now - self.job_begun_s))
                file.flush()
                own_end = file.tell()
            lengths = [float(line) for line in self.tally.read_bytes()[:own_end].splitlines()]
        except OSError:
            return "", ""
        left = seconds_left(lengths, self.jobs, self.at_once, now - self.begun_s)
        return f"[{len(lengths)}/{self.jobs}] ", f", about {duration(left)} left" if left else ""


def seconds_left(lengths: Sequence[float], jobs: int, at_once: int | None, elapsed: float) -> float:
    """Until the last of ``jobs`` ends, if all take as long as those of ``lengths`` did; 0: not known."""
    if len(lengths) >= jobs or at_once is None:
        return 0.0
    turns = math.ceil(jobs / min(at_once, jobs))
    return max(turns * sum(lengths) / len(lengths) - elapsed, 0.0)


_NO_SWEEP = Progress(Path(), 0, None, 0.0)
_current = ContextVar("progress", default=_NO_SWEEP)


@contextmanager
def job_of(progress: Progress) -> Iterator[None]:
    """What is told within is a job of this sweep, which begins now."""
    token = _current.set(replace(progress, job_begun_s=time.time()))
    try:
        yield
    finally:
        _current.reset(token)


def ended() -> tuple[str, str]:
    """``Progress.ended`` of the current job; empty outside a sweep."""
    return _current.get().ended()
