"""Running the jobs of a sweep through a launcher of Hydra, and what became of each."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from ptychofno.config.job import Ending, SweptJob, Task, Watch
from ptychofno.config.plan import KILLED, Job, counted, directory, overview, recorded_state
from ptychofno.config.sources import Sources
from ptychofno.runs import artifacts

# Launchers whose jobs are processes of this machine, which a stop has to reach.
_LOCAL_PROCESSES = ("JoblibLauncher", "LocalLauncher")


def sweep(task: Task, sources: Sources, master: DictConfig, jobs: list[Job]) -> None:
    """Show a table of ``jobs``, run what is due of them, and say what failed and why.

    Args:
        master: the configuration that Hydra composes for the sweep as a whole.

    Raises SystemExit: 1 when a job failed or was refused, 128 + signal when the sweep was stopped.
    """
    print(overview(jobs), flush=True)
    due = [job for job in jobs if job.action in ("run", "resume")]
    failed = {job: job.reason or "" for job in jobs if job.action == "refuse"}
    endings, code = _launch(task, sources, master, due) if due else ([], 0)
    failed |= {job: end.reason for job, end in zip(due, endings, strict=True) if end.state == "failed"}
    if failed:
        print(f"{counted(len(failed))} of {len(jobs)} failed:", file=sys.stderr)
        for job, reason in failed.items():
            print(f"  {job.run_dir}: {reason.removeprefix(f'run_dir={job.run_dir}: ')}", file=sys.stderr)
    if left := sum(end.state == "left" for end in endings):
        print(f"{counted(left)} of {len(jobs)} left; the same command goes on", file=sys.stderr)
    if code or failed or left:
        raise SystemExit(code or 1)


def _launch(task: Task, sources: Sources, master: DictConfig, due: list[Job]) -> tuple[list[Ending], int]:
    """How each job ended, and the exit code of a stop or 0."""
    node = master.hydra.launcher
    kind = str(node._target_).rpartition(".")[2]
    with open_dict(master):
        master.hydra.sweep.dir = directory(due)
    # Hydra's own entry would have done this.
    JobRuntime.instance().set("name", master.hydra.job.name)
    HydraConfig.instance().set_config(master)
    with tempfile.TemporaryDirectory(prefix="ptychofno-sweep-") as scratch:
        job = SweptJob(task, scratch, os.getpid(), list(sys.argv), threads_of(node))
        watch = Watch(Path(scratch))
        callbacks = Callbacks(master)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=sources.loader, callbacks=callbacks),
            task_function=job,
            config=master,
        )
        callbacks.on_multirun_start(config=master, config_name=sources.config_name)

        endings: dict[str, Ending] = {}
        code, number = 0, -1
        batches = _batches(due) if kind in _LOCAL_PROCESSES else [due]
        while batches and not (code := code or watch.exit_code):
            batch, number = batches.pop(0), number + 1

            def launch(batch: list[Job] = batch, first: int = number * len(due)) -> Sequence[Any]:
                return launcher.launch([one.overrides for one in batch], initial_job_idx=first)

            try:
                returns = watch.over(launch) if kind in _LOCAL_PROCESSES else launch()
                ended = [entry.return_value for entry in returns]
                endings |= {one.run_dir: end for one, end in zip(batch, ended, strict=True)}
            except KeyboardInterrupt:
                code = 130
                if kind == "SlurmLauncher":
                    print("jobs that the cluster has already go on; scancel stops them", file=sys.stderr)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            except OSError as error:
                unmade = [one.run_dir for one in batch if _within(one.run_dir, error.filename)]
                ending = Ending("failed", f"cannot be made: {error.strerror}")
                endings |= dict.fromkeys(unmade, ending)
                if not unmade:
                    print(f"{kind}: {error}", file=sys.stderr)
            except Exception as error:
                print(f"{kind}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
                # A process that dies takes its launcher and its neighbours along.
                batches += _batches(again) if (again := _broken_off(batch)) else []
        callbacks.on_multirun_end(config=master, config_name=sources.config_name)
    found = endings | job.endings
    return [found.get(one.run_dir) or _recorded(one) for one in due], code or watch.exit_code


def _batches(jobs: list[Job]) -> list[list[Job]]:
    """What to launch in turn: all jobs at once, but each alone whose process has died before."""
    alive = [job for job in jobs if job.state != KILLED]
    return [*([alive] if alive else []), *([job] for job in jobs if job.state == KILLED)]


def _broken_off(batch: list[Job]) -> list[Job]:
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
    at_once = launcher.get("n_jobs")
    if at_once is None:
        return launcher.get("cpus_per_task")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // (at_once if at_once > 0 else max(1, cores + 1 + at_once)))


def _within(run_dir: str, directory: str | None) -> bool:
    path = Path(run_dir).absolute()
    return directory is not None and Path(directory).absolute() in (path, *path.parents)


def _recorded(job: Job) -> Ending:
    """What a job's directory says, where the launcher could not."""
    state = recorded_state(Path(job.run_dir))
    if state in artifacts.RESULT_STATES:
        return Ending("finished")
    return Ending("failed", "its process died") if state == KILLED else Ending("left")
