"""Stopping a run from outside."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The process was asked to stop. ``exit_code`` is 128 plus the signal's number, as in a shell."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopRequest:
    """SIGTERM, SIGUSR1 and SIGINT as a request: heeded after the current step, at once outside training.

    SIGUSR1 is what Slurm is often told to send before the time is up. A second SIGINT does not wait. Outside
    a process's main thread, where no handler can be put in place, nothing is heard.
    """

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self) -> None:
        self.received: int | None = None
        self.training = False

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle the signals for the length of a block."""
        previous = {signum: signal.getsignal(signum) for signum in self.signals}
        self.install()
        try:
            yield self
        finally:
            if _in_main_thread():
                for signum, handler in previous.items():
                    signal.signal(signum, handler)

    def install(self) -> None:
        """Put the handlers in place (again)."""
        if _in_main_thread():
            for signum in self.signals:
                signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again = self.received is not None and signum == signal.SIGINT
        self.received = signum
        if again or not self.training:
            raise Interrupted(signum)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
