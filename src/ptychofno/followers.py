"""The processes that process 0 starts on its own machine, and what it does when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any


class Followers:
    """Processes of one ``command``, each with variables of its own, silent, and dead when this one is.

    They are out of the terminal's reach: Ctrl-C stops process 0, which tells them. Their standard input
    is a pipe that closes when this process ends, however it ends; what they write as errors is kept and
    shown when they die of one.
    """

    patience_s = 2.0
    """How long after an error a process may take to die of its own, which was the cause."""
    grace_s = 20.0
    """How long after a process died this one may wait for it: on a GPU it would wait for ever."""

    def __init__(self, command: Sequence[str], variables: Sequence[Mapping[str, str]]) -> None:
        self._said: list[IO[Any]] = [tempfile.TemporaryFile() for _ in variables]  # noqa: SIM115
        self._processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            for own, said in zip(variables, self._said, strict=True)
        ]
        self._over = threading.Event()

    def wait_for(self, arrival: Callable[[], bool]) -> None:
        """Wait until all have arrived. Raises as ``watched`` does when one dies before."""
        while not arrival():
            if (cause := self._cause()) is not None:
                raise cause
            time.sleep(0.02)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around what this process does together with them: an error that is theirs replaces ours."""
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        except (RuntimeError, ValueError):
            ends = time.monotonic() + self.patience_s
            while (cause := self._cause()) is None and time.monotonic() < ends:
                time.sleep(0.05)
            if cause is not None:
                raise cause from None  # ours only says that the connection broke
            raise
        finally:
            self._over.set()

    def dismiss(self) -> None:
        """End them, if they have not ended."""
        self._over.set()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process, said in zip(self._processes, self._said, strict=True):
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            said.close()

    def _cause(self) -> Exception | None:
        """Of the first that ended with an error: a ValueError for a mistake of the user, or another."""
        for number, (process, said) in enumerate(zip(self._processes, self._said, strict=True), start=1):
            code = process.poll()
            if code in (None, 0):
                continue
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
            last = text.splitlines()[-1] if text else "it said nothing"
            if code == 2:
                return ValueError(last)
            how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
            if text:
                print(text, file=sys.stderr, flush=True)
            return RuntimeError(
                f"rank {number} of {len(self._processes) + 1} processes died with {how}: {last}"
            )
        return None

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if any(process.poll() not in (None, 0) for process in self._processes):
                if not self._over.wait(self.grace_s):
                    print(f"{self._cause()}; the same command goes on", file=sys.stderr, flush=True)
                    self.dismiss()
                    os._exit(1)
                return
