"""A job of a sweep, wherever a launcher runs it, and how a stop reaches it there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ptychofno.command.launch import Task
from ptychofno.config.composition import register, settle
from ptychofno.config.errors import ConfigError, Held, leave_unread
from ptychofno.config.files import Files
from ptychofno.display import sweep

_STOP = "stop"


@dataclass(frozen=True)
class Ending:
    """How a job ended: ``finished``; ``failed``; or ``left`` for the next start, begun or not."""

    state: str
    reason: str = ""


@dataclass
class SweptJob:
    """One job, as a launcher calls it: in this process, in another, on another machine.

    Whatever happens is told by its result: an exception would end the launcher's other jobs, too. ``scratch``
    is a directory of the process ``sweeper`` (see ``StopRelay``), ``argv`` its command line, ``threads`` the
    CPU threads of a job that asks for no number, ``endings`` those of this process's jobs, by run directory.
    """

    task: Task
    scratch: str
    sweeper: int
    argv: list[str]
    threads: int | None
    progress: sweep.Progress
    endings: dict[str, Ending] = field(default_factory=dict)

    def __call__(self, cfg: DictConfig) -> Ending:
        settle(cfg, Files())
        if cfg.trainer.num_threads is None:
            cfg.trainer.num_threads = self.threads
        with sweep.job_of(self.progress):
            ending = self._attempt(cfg) if os.getpid() == self.sweeper else self._elsewhere(cfg)
        self.endings[cfg.run_dir] = ending
        return ending

    def _attempt(self, cfg: DictConfig) -> Ending:
        try:
            self.task(cfg)
            return Ending("finished")
        except Held as held:  # by another sweep, whose result it will be
            place, left = sweep.ended()
            print(f"{place}{held}{left}", flush=True)
            return Ending("finished")
        except ConfigError as error:
            reason = str(error)
        except BrokenPipeError:
            leave_unread()
            raise SystemExit(128 + signal.SIGPIPE) from None
        except Exception as error:
            traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
        place, left = sweep.ended()
        print(f"{place}{Path(cfg.run_dir).name} failed{left}", flush=True)
        return Ending("failed", reason)

    def _elsewhere(self, cfg: DictConfig) -> Ending:
        sys.argv = list(self.argv)
        os.environ["TTY_COMPATIBLE"] = "0"  # progress bars of several processes would overwrite each other
        with suppress(SystemExit, KeyboardInterrupt), self._reachable():
            if not (Path(self.scratch) / _STOP).exists():
                return self._attempt(cfg)
        with suppress(OSError):
            Path(cfg.run_dir).rmdir()  # when nothing has begun
        return Ending("left")

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Name this process in ``scratch`` and heed SIGTERM, for the length of the job."""
        busy = True

        def stop(*_: Any) -> None:
            if busy:
                raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)  # until the next job: an idle worker must outlive a late one
        note = Path(self.scratch) / str(os.getpid())
        with suppress(FileNotFoundError):  # on another machine
            note.touch()
        try:
            yield
        finally:
            busy = False
            note.unlink(missing_ok=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register()


class StopRelay:
    """Passes SIGINT and SIGTERM on to the jobs that run in other processes of this machine.

    ``scratch`` holds a file for every process that is at a job, and ``stop`` once no further job is to
    start. The first signal lets jobs save what they have; the second kills them.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.exit_code = 0

    def over(self, launch: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """The result of ``launch``, while signals are being watched.

        It runs in a thread that blocks SIGINT, which the processes that it starts inherit: Ctrl-C goes
        to all processes of a terminal, and a worker that it kills while idle takes the busy ones along.
        """
        outcome: list[Any] = []

        def work() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                outcome.append(launch())
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=work)
        previous = {one: signal.signal(one, self._handle) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            thread.start()
            while thread.is_alive():
                thread.join(0.2)
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
        (result,) = outcome
        if isinstance(result, BaseException):
            raise result
        return list(result)

    def _handle(self, signum: int, *_: Any) -> None:
        again = bool(self.exit_code)
        self.exit_code = 128 + signum
        (self.scratch / _STOP).touch()
        busy = [int(note.name) for note in self.scratch.iterdir() if note.name.isdigit()]
        for pid in busy:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if again else signal.SIGTERM)
        if not again:
            print(f"stopping: {len(busy)} running jobs save what they have", file=sys.stderr, flush=True)
