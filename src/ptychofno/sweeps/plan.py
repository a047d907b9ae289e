"""What a sweep has to do: every job beside what is left of an earlier start."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from ptychofno.config.checks import check_divisible
from ptychofno.config.composition import checked, without_hydra
from ptychofno.config.errors import ConfigError, shown
from ptychofno.config.files import Files, shortened
from ptychofno.config.overrides import combinations
from ptychofno.config.records import resolved_yaml
from ptychofno.display.text import aligned
from ptychofno.runs import artifacts
from ptychofno.runs.standing import UNREADABLE, conflict, damaged, foreign, recorded_state


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a sweep, composed from ``overrides``.

    ``name`` is its arm, or its model in a study without arms. ``state`` is that of what stands in its
    directory, ``new`` for nothing. ``action`` is ``run``, ``resume``, ``skip`` what is finished or held by
    another process, or ``refuse``, for a ``reason``.
    """

    overrides: list[str]
    run_dir: str
    name: str
    seed: int
    state: str
    action: str
    reason: str | None = None


def plan(master: DictConfig, overrides: list[str]) -> list[Job]:
    """The jobs of a sweep, each validated. Raises ConfigError for the first that is not valid.

    ``master`` is what Hydra composes for the sweep as a whole; ``overrides`` have all values that a key is to
    take, such as ``seed=1,2``.
    """
    sources = master.hydra.runtime.config_sources
    files = Files(next((source.path for source in sources if source.provider == "command-line"), None))
    hydra = [one for one in master.hydra.overrides.hydra if not one.startswith("hydra.mode=")]
    jobs: dict[str, Job] = {}
    for own in combinations(overrides):
        job = _job(files, own, hydra)
        if job.run_dir in jobs:
            other = jobs[job.run_dir].overrides
            raise ConfigError(f"run_dir={job.run_dir}: two jobs would share it: {shown(other)}, {shown(own)}")
        jobs[job.run_dir] = job
    return list(jobs.values())


def _job(files: Files, own: list[str], hydra: list[str]) -> Job:
    cfg = checked(files, [*own, *hydra])
    _check_launcher(cfg)
    choices = cfg.hydra.runtime.choices
    name = choices.get("arm") or (choices.model if choices.get("study") else "default")
    run_dir, standing = str(cfg.run_dir), _standing(Path(cfg.run_dir), without_hydra(cfg))
    return Job(own, run_dir, str(name), int(cfg.seed), *standing)


def _check_launcher(cfg: DictConfig) -> None:
    """Raise ConfigError when the launcher of a sweep does not start the processes that a job asks for."""
    if cfg.trainer.strategy != "ddp":
        return
    launcher, devices = cfg.hydra.launcher, cfg.trainer.devices
    tasks = launcher.get("tasks_per_node")
    if tasks is None:
        chosen = cfg.hydra.runtime.choices["hydra/launcher"]
        raise ConfigError(
            f"trainer=ddp: a sweep of the {chosen} launcher gives each run one process; start the runs one "
            "by one without -m, or on a cluster add hydra/launcher=submitit_slurm "
            f"hydra.launcher.tasks_per_node={devices or 'PROCESSES'}"
        )
    if devices not in (None, tasks):
        raise ConfigError(
            f"trainer.devices={devices}: a process is a task of the launcher; "
            f"add hydra.launcher.tasks_per_node={devices}, now {tasks}"
        )
    check_divisible(cfg.data.batch_size, tasks * launcher.nodes)


def _standing(run_dir: Path, cfg: DictConfig) -> tuple[str, str, str | None]:
    """State, action and reason of a job whose directory may hold something already."""
    state = recorded_state(run_dir)
    finished = state in artifacts.RESULT_STATES
    if reason := foreign(run_dir):
        return state, "refuse", reason
    if state == "running":
        return state, "skip", None
    if cfg.resume == "never":
        return state, "run", None
    if state == UNREADABLE:
        return state, "refuse", damaged(run_dir / artifacts.RUN)
    if not (finished or (run_dir / artifacts.RESUME_CHECKPOINT).exists()):
        return state, "run", None
    if reason := conflict(run_dir, resolved_yaml(cfg)):
        return state, "refuse", reason
    return state, "skip" if finished else "resume", None


def directory(jobs: Sequence[Job]) -> str:
    """Where the runs of a sweep stand together."""
    return os.path.commonpath([os.path.dirname(os.path.abspath(job.run_dir)) for job in jobs])


def overview(jobs: Sequence[Job]) -> str:
    """A line of numbers and a table of the jobs: what they are, what is there, what is done."""
    actions = Counter(job.action for job in jobs)
    words = {"run": "to run", "resume": "to resume", "skip": "to skip", "refuse": "refused"}
    told = [f"{actions[action]} {word}" for action, word in words.items() if actions[action]]
    # What tells the jobs of one arm and seed apart: the overrides that not all of them share.
    shared = set.intersection(*(set(job.overrides) for job in jobs))
    by_model = all(f"model={job.name}" in job.overrides for job in jobs)
    rows = [["model" if by_model else "arm", "seed", "settings", "state", "action"]]
    for job in jobs:
        said = {*shared, f"+arm={job.name}", f"model={job.name}", f"seed={job.seed}"}
        settings = " ".join(entry for entry in job.overrides if entry not in said)
        rows.append([job.name, str(job.seed), settings, job.state, job.action])
    if not any(row[2] for row in rows[1:]):
        rows = [[*row[:2], *row[3:]] for row in rows]
    head = f"{shortened(directory(jobs))}: {counted(len(jobs))}, {', '.join(told)}"
    return "\n".join([head, *(f"  {'  '.join(row)}" for row in aligned(rows))])


def counted(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"
