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
from ptychofno.sweeps.plan import Job, counted, directory, overview

# Launchers whose jobs are processes of this machine, which a stop has to reach.
_LOCAL_PROCESSES = ("JoblibLauncher", "LocalLauncher")


def sweep(one: OneJob, context: HydraContext, master: DictConfig, jobs: list[Job]) -> None:
    """Show a table of ``jobs``, do ``one`` for those that are due, and say what failed and why.

    Raises SystemExit: 1 when a job failed or was refused, 128 + signal when the sweep was stopped.
    """
    print(overview(jobs), flush=True)
    due = [job for job in jobs if job.action in ("run", "resume")]
    with command_line(one.typed):
        endings, code = _launch(one, context, master, due) if due else ({}, 0)
    if not code:
        _show_ranking(jobs)
    failed = {job: job.reason or "" for job in jobs if job.action == "refuse"}
    failed |= {job: end.reason for job, end in endings.items() if end.state == "failed"}
    if failed:
        print(f"{counted(len(failed))} of {len(jobs)} failed:", file=sys.stderr)
        for job, reason in failed.items():
            print(f"  {job.run_dir}: {reason.removeprefix(f'run_dir={job.run_dir}: ')}", file=sys.stderr)
    if left := sum(end.state == "left" for end in endings.values()):
        print(f"{counted(left)} of {len(jobs)} left; the same command goes on", file=sys.stderr)
    if code or failed or left:
        raise SystemExit(code or 1)


def _show_ranking(jobs: list[Job]) -> None:
    """The report's table and verdict on all results that are there, where there are several."""
    paths = [Path(job.run_dir) for job in jobs]
    found = [path for path in paths if recorded_state(path) in artifacts.RESULT_STATES]
    if len(found) > 1:
        from ptychofno.display.text import make_console
        from ptychofno.report.study import load
        from ptychofno.report.tables import show

        show(make_console(), load(found, anyway=True))


def _launch(
    one: OneJob, context: HydraContext, master: DictConfig, due: list[Job]
) -> tuple[dict[Job, Ending], int]:
    """How each job ended, and the exit code of a stop or 0."""
    node = master.hydra.launcher
    kind = str(node._target_).rpartition(".")[2]
    local = kind in _LOCAL_PROCESSES
    with open_dict(master):
        master.hydra.sweep.dir = directory(due)
    with tempfile.TemporaryDirectory(prefix="ptychofno-sweep-") as scratch:
        tally, relay = Path(scratch) / "ended", StopRelay(Path(scratch))
        tally.touch()
        progress = Progress(tally, len(due), jobs_at_once(node), time.time())
        swept = SweptJob(one.task, scratch, os.getpid(), list(sys.argv), threads_of(node), progress)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=swept, config=master
        )
        batches, code, begun = _batches(due) if local else [due], 0, 0
        while batches and not code:
            batch = batches.pop(0)
            overrides = [job.overrides for job in batch]
            launch = partial(launcher.launch, overrides, initial_job_idx=begun * len(due))
            begun += 1
            try:
                returned = relay.over(launch) if local else launch()
                for job, entry in zip(batch, returned, strict=True):
                    swept.endings[job.run_dir] = entry.return_value
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            except KeyboardInterrupt:
                code = 130
                if kind == "SlurmLauncher":
                    print("jobs that the cluster has already go on; scancel stops them", file=sys.stderr)
            except OSError as error:
                unmade = {job.run_dir: end for job in batch if (end := _unmade(job, error))}
                swept.endings |= unmade
                if not unmade:
                    print(f"{kind}: {error}", file=sys.stderr)
            except Exception as error:
                print(f"{kind}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
                # A process that dies takes its launcher and its neighbours along.
                batches += _batches(_broken_off(batch))
            code = code or relay.exit_code
    return {job: swept.endings.get(job.run_dir) or _recorded(job) for job in due}, code


def _batches(jobs: list[Job]) -> list[list[Job]]:
    """What to launch in turn: all jobs at once, but each alone whose process has died before."""
    alive = [job for job in jobs if job.state != KILLED]
    return [*([alive] if alive else []), *([job] for job in jobs if job.state == KILLED)]


def _broken_off(batch: list[Job]) -> list[Job]:
    """What is left of several jobs of which one died; nothing where that cannot be told from the others."""
    for _ in range(50):  # until the launcher has ended the neighbours
        now = [replace(job, state=recorded_state(Path(job.run_dir))) for job in batch]
        if all(job.state != "running" for job in now):
            break
        time.sleep(0.1)
    if len(batch) == 1 or all(job.state != KILLED for job in now):
        return []
    return [job for job in now if job.state in ("new", "interrupted", KILLED)]


def _unmade(job: Job, error: OSError) -> Ending | None:
    """The end of a job whose directory is what an ``error`` is about."""
    run_dir, failed = Path(job.run_dir).absolute(), Path(error.filename or "").absolute()
    concerned = error.filename is not None and failed in (run_dir, *run_dir.parents)
    return Ending("failed", f"cannot be made: {error.strerror}") if concerned else None


def _recorded(job: Job) -> Ending:
    """What a job's directory says, where the launcher could not."""
    state = recorded_state(Path(job.run_dir))
    if state in artifacts.RESULT_STATES:
        return Ending("finished")
    return Ending("failed", "its process died") if state == KILLED else Ending("left")


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
