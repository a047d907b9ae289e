"""Running the jobs of a sweep through a launcher of Hydra, and what became of each."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from ptychofno.command.launch import OneJob, command_line
from ptychofno.display.sweep import Progress
from ptychofno.runs import artifacts
from ptychofno.runs.standing import KILLED, recorded_state
from ptychofno.sweeps.job import Ending, StopRelay, SweptJob
from ptychofno.sweeps.plan import Run, counted, directory, overview

# Launchers whose jobs are processes of this machine, which a stop has to reach.
_LOCAL_PROCESSES = ("JoblibLauncher", "LocalLauncher")


def sweep(job: OneJob, context: HydraContext, master: DictConfig, runs: list[Run]) -> None:
    """Show a table of ``runs``, do what is due of them, and say what failed and why.

    Args:
        job: what to do for each. master: the configuration that Hydra composes for the sweep as a whole.

    Raises SystemExit: 1 when a job failed or was refused, 128 + signal when the sweep was stopped.
    """
    print(overview(runs), flush=True)
    due = [run for run in runs if run.action in ("run", "resume")]
    failed = {run: run.reason or "" for run in runs if run.action == "refuse"}
    with command_line(job.typed):
        endings, code = _launch(job, context, master, due) if due else ([], 0)
    if not code:
        _show_ranking(runs)
    failed |= {run: end.reason for run, end in zip(due, endings, strict=True) if end.state == "failed"}
    if failed:
        print(f"{counted(len(failed))} of {len(runs)} failed:", file=sys.stderr)
        for run, reason in failed.items():
            print(f"  {run.run_dir}: {reason.removeprefix(f'run_dir={run.run_dir}: ')}", file=sys.stderr)
    if left := sum(end.state == "left" for end in endings):
        print(f"{counted(left)} of {len(runs)} left; the same command goes on", file=sys.stderr)
    if code or failed or left:
        raise SystemExit(code or 1)


def _show_ranking(runs: list[Run]) -> None:
    """The report's table and verdict on all results that are there, where there are several."""
    states = {Path(run.run_dir): recorded_state(Path(run.run_dir)) for run in runs}
    found = [path for path, state in states.items() if state in artifacts.RESULT_STATES]
    if len(found) > 1:
        from ptychofno.display.text import make_console
        from ptychofno.report.study import load
        from ptychofno.report.terminal import show

        show(make_console(), load(found, anyway=True))


def _launch(
    job: OneJob, context: HydraContext, master: DictConfig, due: list[Run]
) -> tuple[list[Ending], int]:
    """How each run ended, and the exit code of a stop or 0."""
    node = master.hydra.launcher
    kind = str(node._target_).rpartition(".")[2]
    with open_dict(master):
        master.hydra.sweep.dir = directory(due)
    endings: dict[str, Ending] = {}
    with tempfile.TemporaryDirectory(prefix="ptychofno-sweep-") as scratch:
        tally = Path(scratch) / "ended"
        tally.touch()
        progress = Progress(tally, len(due), jobs_at_once(node), time.time())
        swept = SweptJob(job.task, scratch, os.getpid(), list(sys.argv), threads_of(node), progress)
        relay = StopRelay(Path(scratch))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=swept, config=master
        )
        code, number = 0, -1
        batches = _batches(due) if kind in _LOCAL_PROCESSES else [due]
        while batches and not (code := code or relay.exit_code):
            batch, number = batches.pop(0), number + 1
            given = partial(
                launcher.launch, [one.overrides for one in batch], initial_job_idx=number * len(due)
            )
            try:
                returns = relay.over(given) if kind in _LOCAL_PROCESSES else given()
                ended = [entry.return_value for entry in returns]
                endings |= {one.run_dir: end for one, end in zip(batch, ended, strict=True)}
            except (KeyboardInterrupt, SystemExit) as stop:
                code = _exit_code(stop, kind)
            except OSError as error:
                endings |= _unmade(batch, error, kind)
            except Exception as error:
                print(f"{kind}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
                # A process that dies takes its launcher and its neighbours along.
                batches += _batches(again) if (again := _broken_off(batch)) else []
    found = endings | swept.endings
    return [found.get(one.run_dir) or _recorded(one) for one in due], code or relay.exit_code


def _exit_code(stop: BaseException, kind: str) -> int:
    if isinstance(stop, SystemExit):
        return stop.code if isinstance(stop.code, int) else 1
    if kind == "SlurmLauncher":
        print("jobs that the cluster has already go on; scancel stops them", file=sys.stderr)
    return 130


def _unmade(batch: list[Run], error: OSError, kind: str) -> dict[str, Ending]:
    """The runs whose directory an ``error`` names."""
    unmade = [one.run_dir for one in batch if _within(one.run_dir, error.filename)]
    if not unmade:
        print(f"{kind}: {error}", file=sys.stderr)
    return dict.fromkeys(unmade, Ending("failed", f"cannot be made: {error.strerror}"))


def _batches(runs: list[Run]) -> list[list[Run]]:
    """What to launch in turn: all jobs at once, but each alone whose process has died before."""
    alive = [run for run in runs if run.state != KILLED]
    return [*([alive] if alive else []), *([run] for run in runs if run.state == KILLED)]


def _broken_off(batch: list[Run]) -> list[Run]:
    """What is left of several jobs of which one died; nothing where that cannot be told from the others."""
    for _ in range(50):  # until the launcher has ended the neighbours
        states = {job: recorded_state(Path(job.run_dir)) for job in batch}
        if "running" not in states.values():
            break
        time.sleep(0.1)
    died = [job for job, state in states.items() if state == KILLED]
    left = [
        replace(job, state=state) for job, state in states.items() if state in ("new", "interrupted", KILLED)
    ]
    return left if died and len(batch) > 1 else []


def threads_of(launcher: DictConfig) -> int | None:
    """CPU threads of one job: the machine's cores shared by the jobs that a launcher runs at once.

    None leaves torch's default: one job at a time, or a number from the environment.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return None
    if launcher.get("n_jobs") is None:
        return launcher.get("cpus_per_task")
    return max(1, _cores() // (jobs_at_once(launcher) or 1))


def jobs_at_once(launcher: DictConfig) -> int | None:
    """How many jobs a launcher runs side by side; None where a cluster decides."""
    at_once = launcher.get("n_jobs")
    if at_once is None:
        return None if "cpus_per_task" in launcher else 1
    return int(at_once) if at_once > 0 else max(1, _cores() + 1 + at_once)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _within(run_dir: str, directory: str | None) -> bool:
    path = Path(run_dir).absolute()
    return directory is not None and Path(directory).absolute() in (path, *path.parents)


def _recorded(job: Run) -> Ending:
    """What a job's directory says, where the launcher could not."""
    state = recorded_state(Path(job.run_dir))
    if state in artifacts.RESULT_STATES:
        return Ending("finished")
    return Ending("failed", "its process died") if state == KILLED else Ending("left")
