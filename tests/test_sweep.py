"""Sweeps as a user starts them: studies, restarts, stops, launchers, and no job that changes another."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from omegaconf import OmegaConf

import quick_runs
from ptychofno.command import line
from ptychofno.config import composition
from ptychofno.config.composition import checked, compose
from ptychofno.config.files import Files
from ptychofno.runs import artifacts
from ptychofno.runs.standing import KILLED
from ptychofno.sweeps import launch
from ptychofno.sweeps.launch import _batches, threads_of
from ptychofno.sweeps.plan import Job
from ptychofno.train import train
from quick_runs import QUICK

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.stem for path in (ROOT / "conf" / "study").glob("*.yaml"))
STAGE_A = {
    "control",
    "agc",
    "stable_zero_gamma",
    "stable",
    "stable_warmup",
    "stable_lowlr",
    "stable_warmup_lowlr",
    "stable_warmup_clip",
    "stable_sgd",
    "stable_adamw",
    "plateau",
}
SHALLOW = [*QUICK, "model.fno_blocks=1", "model.modes=4"]

pytestmark = pytest.mark.usefixtures("_in_workplace")


def sweep(*argv: str, code: int = 0) -> None:
    """``argv`` from within this process."""
    if code == 0:
        line.run(train, ["-m", *argv])
        return
    with pytest.raises(SystemExit) as exited:
        line.run(train, ["-m", *argv])
    assert exited.value.code == code


def planned(*argv: str) -> dict[str, list[str]]:
    """The overrides of a sweep's runs by their directory, from its plan alone."""
    found: dict[str, list[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            launch, "sweep", lambda *given: found.update((job.run_dir, job.overrides) for job in given[-1])
        )
        line.run(train, ["-m", *argv])
    return found


def composed(*argv: str) -> dict[str, Any]:
    """The configurations of a sweep by run directory."""
    config_dir = argv[argv.index("--config-dir") + 1] if "--config-dir" in argv else None
    return {there: compose(own, config_dir=config_dir) for there, own in planned(*argv).items()}


def table(text: str) -> dict[tuple[str, ...], tuple[str, str]]:
    """State and action by what identifies a job, from what a sweep prints first."""
    rows = [line.split() for line in text.splitlines() if re.match(r"  \S+ +\d+ ", line)]
    return {tuple(row[:-2]): (row[-2], row[-1]) for row in rows}


def state(run_dir: str) -> str:
    return str(artifacts.read_json(Path(run_dir) / artifacts.RUN)["state"])


def result(run_dir: str) -> dict[str, Any]:
    """All of a run that must not depend on what ran before."""
    there = Path(run_dir)
    history = artifacts.read_json(there / artifacts.HISTORY)
    del history["seconds"]
    return {
        "history": history,
        "metrics": artifacts.read_json(there / artifacts.METRICS),
        "stats": artifacts.read_json(there / artifacts.STATS),
        "steps": (there / artifacts.GRAD_NORMS).read_text(),
        "weights": {name: value.tolist() for name, value in quick_runs.weights(there, "last").items()},
    }


# --- studies ---------------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_composes_with_any_data(study: str) -> None:
    one = ["+arm=agc"] if study != "architectures" else ["model=cnn,stable_hybrid"]
    runs = composed(f"+study={study}", "data=grid_lines_tiny", *one, "seed=7")
    assert all(run_dir.startswith(f"outputs/{study}/") for run_dir in runs)
    assert {cfg.data.name for cfg in runs.values()} == {"grid_lines_tiny"}
    assert {(cfg.seed, cfg.trainer.max_epochs, cfg.data.nimgs_train) for cfg in runs.values()} == {(7, 20, 1)}


@pytest.mark.usefixtures("empty")
def test_a_study_of_a_measured_scan() -> None:
    runs = composed("+study=stage_a", "+arm=agc", "seed=1", "data=measured", "data.path=x.npz")
    assert [cfg.probe._target_.rpartition(".")[2] for cfg in runs.values()] == ["RefinedProbe"]


@pytest.mark.usefixtures("empty")
@pytest.mark.slow
def test_stage_a_is_every_arm_and_seed_named_by_them() -> None:
    names = {f"outputs/stage_a/{arm}-seed{seed}" for arm in STAGE_A for seed in (1, 2, 3)}
    assert set(planned("+study=stage_a")) == names
    small = planned("+study=stage_a", "+arm=control,agc", "data=grid_lines_small", "seed=4,5")
    assert set(small) == {
        f"outputs/stage_a/{arm}-seed{seed}-data=grid_lines_small"
        for arm in ("control", "agc")
        for seed in (4, 5)
    }


@pytest.mark.usefixtures("empty")
@pytest.mark.slow
def test_depths_and_models_name_what_they_distinguish() -> None:
    deep = composed("+study=stage_b", "+arm=agc", "seed=1")
    assert set(deep) == {f"outputs/stage_b/agc-seed1-model.fno_blocks={depth}" for depth in (4, 6, 8)}
    assert {cfg.data.name for cfg in deep.values()} == {"grid_lines"}
    assert {(cfg.model.max_hidden_channels, cfg.model.checkpoint_activations) for cfg in deep.values()} == {
        (512, True)
    }
    assert set(planned("+study=crash_hunt")) == {
        f"outputs/crash_hunt/control-seed{seed}-model.fno_blocks={depth}"
        for seed in (1, 2, 3, 4, 5)
        for depth in (4, 6, 8)
    }
    assert set(planned("+study=architectures", "seed=1")) == {
        f"outputs/architectures/{model}-seed1" for model in ("cnn", "fno", "hybrid", "stable_hybrid")
    }


@pytest.mark.usefixtures("empty")
@pytest.mark.slow
def test_what_the_study_gives_to_every_run_is_not_named_but_its_change_is() -> None:
    Path("mine/study").mkdir(parents=True)
    Path("mine/study/short.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n  sweeper:\n    params:\n      +arm: agc\n      clip.value: 0.02\n      seed: 1,2\n"
    )
    short = ("+study=short", "--config-dir", "mine")
    assert set(composed(*short)) == {f"outputs/short/agc-seed{seed}" for seed in (1, 2)}
    assert set(composed(*short, "clip.value=0.03", "seed=1")) == {"outputs/short/agc-seed1-clip.value=0.03"}


@pytest.mark.usefixtures("empty")
def test_a_new_arm_is_a_file() -> None:
    Path("mine/arm").mkdir(parents=True)
    Path("mine/arm/late.yaml").write_text(
        "# @package _global_\ndefaults: [stable, _self_]\noptimizer:\n  lr: 7e-4\n"
    )
    runs = composed("+study=stage_a", "+arm=control,late", "seed=1", "--config-dir", "mine")
    assert runs["outputs/stage_a/late-seed1"].optimizer.lr == 7e-4


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["+study=stage_a"], "+study=stage_a: describes a sweep over +arm, seed; add -m"),
        (["-m", "+study=stage_b", "+study=stage_a"], "one study at a time"),
        (["-m", "+study=stage_c"], "study=stage_c: expected one of architectures"),
        (["-m", "+study=stage_b", "model=fno"], "model.max_hidden_channels: no such setting"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    argv: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where no other test has made outputs/
    with pytest.raises(SystemExit) as refused:
        line.run(train, argv)
    printed = capsys.readouterr()
    assert refused.value.code == 2 and printed.out == "" and not Path("outputs").exists()
    assert len(printed.err.splitlines()) == 1 and said in printed.err


# --- what is left, and what fails ------------------------------------------------------------


@pytest.mark.slow
def test_a_job_gives_the_same_bits_alone_and_after_others() -> None:
    jobs = ["+study=stage_a", *SHALLOW, "trainer.max_epochs=2", "logger=tensorboard"]
    sweep(*jobs, "+arm=stable_adamw,agc,control", "seed=2", "resume=never")
    names = [path.name for path in Path("outputs/stage_a").glob("*-seed2-*")]
    assert len(names) == 3
    (last,) = [name for name in names if name.startswith("control-seed2")]
    after = result(f"outputs/stage_a/{last}")
    sweep(*jobs, "+arm=control", "seed=2", "run_dir=outputs/alone")
    assert result("outputs/alone") == after
    assert len(set(map(str, (result(f"outputs/stage_a/{name}")["weights"] for name in names)))) == 3


def test_a_restart_runs_only_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = ["+study=stage_a", *SHALLOW, "run_dir=outputs/again/${hydra:runtime.choices.arm}"]
    sweep(*jobs, "+arm=control", "seed=1")
    jobs.append("+arm=control,agc")
    before = (Path("outputs/again/control") / artifacts.RUN).stat().st_mtime_ns
    capsys.readouterr()
    sweep(*jobs, "seed=1")
    said = capsys.readouterr().out
    assert said.startswith("outputs/again: 2 runs, 1 to run, 1 to skip\n")
    assert list(table(said).values()) == [(state("outputs/again/control"), "skip"), ("new", "run")]
    assert (Path("outputs/again/control") / artifacts.RUN).stat().st_mtime_ns == before
    sweep(*jobs, "seed=1")
    said = capsys.readouterr().out
    assert {action for _, action in table(said).values()} == {"skip"} and "training" not in said


def test_states_and_actions(capsys: pytest.CaptureFixture[str]) -> None:
    """Every state that an earlier start can have left."""
    study = ["+study=stage_a", "+arm=control", *SHALLOW, "run_dir=outputs/left/${seed}"]
    sweep(*study, "seed=1")
    config = (Path("outputs/left/1") / artifacts.CONFIG).read_text()
    left = {2: "interrupted", 3: "running", 4: "failed", 5: "running", 6: "completed", 7: "failed"}
    for seed, said in left.items():
        there = Path(f"outputs/left/{seed}")
        artifacts.write_json(there / artifacts.RUN, {"state": said})
        own = config.replace("seed: 1\n", f"seed: {seed}\n").replace("left/1", f"left/{seed}")
        artifacts.write_text(
            there / artifacts.CONFIG, own.replace("lr: 0.001", "lr: 0.1") if seed == 6 else own
        )
        if seed in (2, 3):
            artifacts.write_text(there / artifacts.RESUME_CHECKPOINT, "")
    Path("outputs/left/8").mkdir()
    (Path("outputs/left/8") / artifacts.RUN).write_text("{")
    seen: list[int] = []

    def task(cfg: Any) -> None:
        seen.append(cfg.seed)

    with FileLock(Path("outputs/left/5") / artifacts.LOCK), pytest.raises(SystemExit) as exited:
        line.run(task, ["-m", *study, "seed=1,2,3,4,5,6,7,8,9"])
    printed = capsys.readouterr()
    assert {int(key[1]): value for key, value in table(printed.out).items()} == {
        1: (state("outputs/left/1"), "skip"),
        2: ("interrupted", "resume"),
        3: ("killed", "resume"),
        4: ("failed", "run"),
        5: ("running", "skip"),
        6: ("completed", "refuse"),
        7: ("failed", "run"),
        8: ("unreadable", "refuse"),
        9: ("new", "run"),
    }
    assert seen == [2, 3, 4, 7, 9] and exited.value.code == 1
    assert printed.err.splitlines()[0] == "2 runs of 9 failed:"
    assert "outputs/left/6: holds a run with optimizer.lr=0.1;" in printed.err
    assert "outputs/left/8/run.json: cannot be read; resume=never sets" in printed.err


def test_a_run_that_another_sweep_began_meanwhile_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    there = Path("outputs/both/1")
    there.mkdir(parents=True)
    with FileLock(there / artifacts.LOCK):
        sweep("model=cnn", "seed=1,2", *QUICK, "run_dir=outputs/both/${seed}")
    assert "run_dir=outputs/both/1: another process is writing this run" in capsys.readouterr().out
    assert not (there / artifacts.RUN).exists() and state("outputs/both/2") in artifacts.RESULT_STATES


def test_a_failing_arm_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    sweep(
        "+arm=agc",
        "seed=81,82",
        "trainer.accelerator=gpu,cpu",
        *SHALLOW,
        "run_dir=outputs/${trainer.accelerator}/${seed}",
        code=1,
    )
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "2 runs of 4 failed:" and len(errors) == 3
    assert all("trainer.accelerator=gpu: no CUDA device" in line for line in errors[1:])
    assert state("outputs/gpu/81") == "failed" and state("outputs/cpu/82") in artifacts.RESULT_STATES


# --- launchers and stops ---------------------------------------------------------------------

joblib = pytest.mark.skipif(find_spec("joblib") is None, reason="needs the extra joblib")
submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="needs the extra submitit")


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
            marks=[joblib, pytest.mark.slow],
            id="joblib",
        ),
        pytest.param(["hydra/launcher=submitit_local"], marks=[submitit, pytest.mark.slow], id="submitit"),
    ],
)
def test_other_processes_give_the_same_results(
    launcher: list[str], request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    name = request.node.callspec.id
    jobs = ["+study=architectures", "model=cnn", *QUICK, "trainer.num_threads=1"]
    sweep(*jobs, "seed=2", "run_dir=outputs/here/${seed}")
    sweep(*jobs, "seed=1,2", *launcher, f"run_dir=outputs/{name}/${{seed}}")
    assert result(f"outputs/{name}/2") == result("outputs/here/2")
    record = artifacts.read_json(Path(f"outputs/{name}/1") / artifacts.RUN)
    assert "+study=architectures" in record["command"] and launcher[0] in record["command"]
    if name == "joblib":
        ended = re.findall(r"^\[[12]/2\] [12] \w+ in ", capfd.readouterr().out, re.MULTILINE)
        assert [line[:6] for line in ended] == ["[1/2] ", "[2/2] "]


@joblib
@pytest.mark.slow
def test_a_failure_in_another_process_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    jobs = ["model=cnn", "data.batch_size=8,5000", "data.drop_last=true", *QUICK]
    sweep(*jobs, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=5", code=1)
    errors = capfd.readouterr().err.splitlines()
    assert "1 run of 2 failed:" in errors and "data.batch_size=5000: larger than" in errors[-1]


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    shares = {jobs: threads_of(OmegaConf.create({"n_jobs": jobs})) for jobs in (1, 2, 3, 100, -1, -2)}
    assert shares == {1: 8, 2: 4, 3: 2, 100: 1, -1: 1, -2: 1}
    assert threads_of(OmegaConf.create({})) is None
    assert threads_of(OmegaConf.create({"cpus_per_task": 3})) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_of(OmegaConf.create({"n_jobs": 2})) is None


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Starts a sweep in a process group of its own, as a terminal does; kills what is left of it."""
    groups = []

    def start(*argv: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ptychofno.train", "-m", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        groups.append(process.pid)
        return process

    yield start
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def wait_for(process: subprocess.Popen[str], *files: Path) -> None:
    for _ in range(1200):
        if all(file.exists() for file in files) or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()[0]


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param([], marks=pytest.mark.slow, id="basic"),
        pytest.param(
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
            marks=[joblib, pytest.mark.slow],
            id="joblib",
        ),
        pytest.param(["hydra/launcher=submitit_local"], marks=[submitit, pytest.mark.slow], id="submitit"),
    ],
)
def test_ctrl_c_stops_the_sweep_and_the_next_start_goes_on(
    launcher: list[str], started: Any, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path("outputs/stop") / request.node.callspec.id
    jobs = ["model=cnn", "seed=1,2,3", *QUICK, "trainer.max_epochs=400", f"run_dir={root}/${{seed}}"]
    process = started(*jobs, *launcher)
    begun = [1] if not launcher else [1, 2]
    wait_for(process, *(root / str(seed) / artifacts.HISTORY for seed in begun))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to every process of the group
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "3 runs of 3 left; the same command goes on" in said
    for seed in begun:
        assert state(f"{root}/{seed}") == "interrupted"
        assert (root / str(seed) / artifacts.RESUME_CHECKPOINT).exists()

    seen: list[int] = []
    line.run(lambda cfg: seen.append(cfg.seed), ["-m", *jobs])
    actions = {int(key[1]): value for key, value in table(capfd.readouterr().out).items()}
    assert all(actions[seed] == ("interrupted", "resume") for seed in begun) and seen == [1, 2, 3]


@pytest.mark.slow
def test_the_end_of_a_stopped_sweep_is_that_of_an_unbroken_one(started: Any) -> None:
    jobs = ["model=cnn", "seed=1", *QUICK, "trainer.max_epochs=25"]
    process = started(*jobs, "run_dir=outputs/cut/${seed}")
    wait_for(process, Path("outputs/cut/1") / artifacts.HISTORY)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    sweep(*jobs, "run_dir=outputs/cut/${seed}")
    sweep(*jobs, "run_dir=outputs/uncut/${seed}")
    assert result("outputs/cut/1") == result("outputs/uncut/1")
    assert artifacts.read_json(Path("outputs/cut/1") / artifacts.RUN)["resumed"] == 1


@joblib
@pytest.mark.slow
def test_a_worker_that_dies_is_named_and_the_others_go_on(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mortal.py").write_text(
        "import os\nfrom ptychofno.training.losses import MAELoss\n\n"
        "def loss(mean_amplitude, seed):\n    return os._exit(3) if seed == 1 else MAELoss(mean_amplitude)\n"
    )
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mortal.yaml").write_text("_target_: mortal.loss\nseed: ${seed}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    jobs = ["model=cnn", "loss=mortal", "seed=1,2,3", *QUICK, "run_dir=outputs/dies/${seed}"]
    process = started(
        *jobs, "--config-dir", str(tmp_path), "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "1 run of 3 failed:\n  outputs/dies/1: its process died\n" in said, said
    assert all(state(f"outputs/dies/{seed}") in artifacts.RESULT_STATES for seed in (2, 3))


def test_jobs_of_the_same_files_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    files, asked, whole = Files(), [], composition._of_choices
    monkeypatch.setattr(composition, "_of_choices", lambda *a: asked.append(a) or whole(*a))
    jobs = [[f"+arm={arm}", f"seed={seed}"] for arm in ("agc", "stable") for seed in (1, 2, 3)]
    planned = [checked(files, own).run_dir for own in jobs]
    assert len(asked) == 2
    assert planned == [compose(own).run_dir for own in jobs]


def test_who_died_before_runs_alone_and_last() -> None:
    jobs = [
        Job([], f"{n}", "a", n, state, "run") for n, state in enumerate((KILLED, "new", KILLED, "failed"))
    ]
    assert [[job.seed for job in batch] for batch in _batches(jobs)] == [[1, 3], [0], [2]]


def test_the_configuration_of_a_swept_run_is_that_of_a_single_one() -> None:
    sweep("+study=stage_a", "+arm=agc", "seed=3", *SHALLOW, "run_dir=outputs/swept")
    line.run(train, ["+arm=agc", "seed=3", *SHALLOW, "run_dir=outputs/single"])
    swept, single = (
        yaml.safe_load((Path("outputs") / name / artifacts.CONFIG).read_text())
        for name in ("swept", "single")
    )
    del swept["run_dir"], single["run_dir"]
    assert swept == single
    recorded = artifacts.read_json(Path("outputs/swept") / artifacts.RUN)
    assert (recorded["study"], recorded["arm"]) == ("stage_a", "agc")
