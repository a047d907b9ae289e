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

    SIGUSR1 is what Slurm is often told to send before the time is up. A second SIGINT does not wait.
    """

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self) -> None:
        self.received: int | None = None
        self.training = False

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle the signals for the length of a block, where a process may: in its main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {signum: signal.getsignal(signum) for signum in self.signals}
        self.install()
        try:
            yield self
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def install(self) -> None:
        """Put the handlers in place (again); nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in self.signals:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again = self.received is not None and signum == signal.SIGINT
        self.received = signum
        if again or not self.training:
            raise Interrupted(signum)
