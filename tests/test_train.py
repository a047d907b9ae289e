"""Runs as a user starts them: every arm, every choice, refusals, stops, and what they leave behind."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import ptychofno
import quick_runs
from ptychofno import build
from ptychofno.command import line
from ptychofno.config.composition import compose
from ptychofno.config.errors import ConfigError
from ptychofno.config.files import Files
from ptychofno.display import terminal
from ptychofno.display.progress import ProgressBar
from ptychofno.display.text import make_console
from ptychofno.runs import artifacts, weights
from ptychofno.runs.artifacts import save_tensors
from ptychofno.runs.directory import Run, objective, open_run
from ptychofno.runs.stats import state_of
from ptychofno.train import train
from ptychofno.training.interruption import Interrupted
from quick_runs import run

ROOT = Path(__file__).parents[1]
ARMS = sorted(path.stem for path in (ROOT / "conf" / "arm").glob("[!_]*.yaml"))
QUICK = ["data=grid_lines_tiny", "trainer.max_epochs=1", "logger=none"]
TINY = ["model.hidden_channels=2", "model.modes=4", "model.fno_blocks=1"]
SMALL = [*QUICK, *TINY, "refine=none"]


pytestmark = pytest.mark.usefixtures("_in_workplace")


def command(*overrides: str) -> None:
    line.run(train, list(overrides))


def record(run_dir: Path) -> dict[str, Any]:
    return dict(artifacts.read_json(run_dir / artifacts.RUN))


@pytest.mark.slow  # arms combine what the test below trains; what they say is compared with their table
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains(arm: str) -> None:
    run(f"+arm={arm}", *QUICK, f"run_dir=outputs/arms/{arm}")
    assert record(Path("outputs/arms") / arm)["state"] in ("completed", "collapsed")


PARTS = {
    group: Files().choices(group)
    for group in (
        *("model", "model/block", "model/inputs", "model/output", "optimizer", "scheduler"),
        *("clip", "loss"),
    )
}


@pytest.mark.parametrize("turn", range(max(map(len, PARTS.values()))))
def test_every_part_trains(turn: int, tmp_path: Path) -> None:
    """As many runs as the largest group has choices, each with the next choice of every group."""
    chosen = {group: names[turn % len(names)] for group, names in PARTS.items()}
    small = ["model.hidden_channels=4", "refine=none"]
    if chosen["model"] == "cnn":
        del chosen["model/block"]
    else:
        small.append("model.fno_blocks=2")
    run(*QUICK, *(f"{group}={name}" for group, name in chosen.items()), *small, f"run_dir={tmp_path / 'run'}")
    metrics = artifacts.read_json(tmp_path / "run" / artifacts.METRICS)
    assert 0 <= metrics["ssim"][0] <= 1 and metrics["phase_vacuous"] is False


@pytest.mark.parametrize(
    "choice",
    [
        ["data.gridsize=2", "data.batch_size=7", "data.drop_last=true"],
        ["data.gridsize=2", "data.thinning=0.5", "data.nphotons=1e5", "loss=poisson"],
        ["data.nimgs_train=2", "data.nimgs_test=2", "trainer.precision=bf16-mixed"],
        ["data.set_phi=false", "trainer.matmul_precision=highest"],
    ],
    ids=" ".join,
)
def test_every_choice_trains(choice: list[str], tmp_path: Path) -> None:
    run(*SMALL, *choice, f"run_dir={tmp_path / 'run'}")
    metrics = artifacts.read_json(tmp_path / "run" / artifacts.METRICS)
    assert 0 <= metrics["ssim"][0] <= 1
    assert metrics["phase_vacuous"] is ("data.set_phi=false" in choice)


def test_the_precision_of_products_is_that_of_a_run_only(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    cfg = compose([*QUICK, "trainer.matmul_precision=medium"])
    with build.reproducibly(cfg):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    losses, names = [], []
    for compile in ("false", "true"):
        run_dir = tmp_path / compile
        run(*QUICK, "model.hidden_channels=4", f"trainer.compile={compile}", f"run_dir={run_dir}")
        losses.append(artifacts.read_json(run_dir / artifacts.HISTORY)["val_loss"])
        names.append(set(torch.load(run_dir / artifacts.MODEL, weights_only=True)["state_dict"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and names[0] == names[1]


WHOLE = Path("outputs/whole")
AS_WHOLE = [*QUICK, *TINY, "trainer.max_epochs=2", "logger=tensorboard", "seed=11", "refine.rounds=2"]
AS_WHOLE += ["model/output=patch", f"run_dir={WHOLE}"]


@pytest.fixture
def whole(_in_workplace: None) -> Path:
    """A finished run in the directory that the tests of this module share."""
    if not WHOLE.exists():
        command(*AS_WHOLE)
    return WHOLE


def test_what_a_run_leaves_behind(whole: Path) -> None:
    there = whole
    for name in (
        artifacts.CONFIG,
        artifacts.RUN,
        artifacts.HISTORY,
        artifacts.METRICS,
        artifacts.STATS,
        artifacts.GRAD_NORMS,
        artifacts.MODEL,
        artifacts.RECONSTRUCTION,
        artifacts.RECONSTRUCTION_FIGURE,
        artifacts.CURVES_FIGURE,
        artifacts.TRAIN_LOG,
        f"{artifacts.HYDRA_DIR}/overrides.yaml",
    ):
        assert (there / name).stat().st_size > 0, name
    assert list((there / "tensorboard").glob("events*"))
    assert (there / artifacts.RESUME_CHECKPOINT).exists()  # for more epochs
    said = record(there)
    assert said["seed"] == 11 and said["epochs"] == 2 and said["parameters"] > 0
    assert (Path("outputs/datasets") / f"{said['dataset']}-{said['dataset_key']}" / "manifest.json").exists()
    assert said["command"].startswith("python -m ptychofno.train")
    sources = Path(ptychofno.__file__).parent
    tree = subprocess.run(
        ["git", "-C", str(sources), "rev-parse", "HEAD:./"], capture_output=True, text=True
    ).stdout.strip()
    assert (said["code"] or "").rstrip("+") == tree  # both empty outside git
    assert 0 < said["flat_baseline"] < 1 and said["arm"] is None and said["study"] is None
    config = yaml.safe_load((there / artifacts.CONFIG).read_text())
    assert config["seed"] == 11 and config["data"]["N"] == 32


def test_the_saved_model_is_the_judged_one(whole: Path) -> None:
    network = weights.load_model(whole / artifacts.MODEL)
    said = artifacts.read_json(whole / artifacts.HISTORY)["val_loss"]
    assert record(whole)["best_epoch"] == 1 + said.index(min(said))
    best = quick_runs.weights(whole, f"epoch={record(whole)['best_epoch']}")
    assert all(torch.equal(value, best[name]) for name, value in network.state_dict().items())


def _stop_at_once(bar: ProgressBar, *_: Any) -> None:
    raise Interrupted(signal.SIGTERM)


@pytest.mark.parametrize("judged", ["best", "last"])
def test_weights_are_stored_once(judged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, steep = tmp_path / "run", ["optimizer=adam", "optimizer.lr=10", "clip=none", "scheduler=default"]
    own = [*SMALL, "model=hybrid_narrow", *steep, f"evaluation.checkpoint={judged}", f"run_dir={there}"]
    run(*own, "trainer.max_epochs=2", "trainer.keep_every=1")
    best, epochs = record(there)["best_epoch"], sorted((there / "checkpoints").glob("epoch-*"))
    assert best == 1 and len(epochs) == 2
    files = {path.name for path in (there / "checkpoints").glob("*")} - {path.name for path in epochs}
    assert files == {"resume.ckpt", "last.pt" if judged == "best" else "best.pt"}
    for which, epoch in (("best", 1), ("last", 2), ("judged", 1 if judged == "best" else 2)):
        kept = torch.load(there / artifacts.epoch_weights(epoch), weights_only=True)
        found = quick_runs.weights(there, which)
        assert all(torch.equal(value, found[name]) for name, value in kept.items()), which
    longer = [*own, "trainer.max_epochs=3", "trainer.keep_every=1"]
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(ProgressBar, "on_train_batch_end", _stop_at_once)
        run(*longer)
    assert record(there)["state"] == "interrupted" and quick_runs.weights(there, "best")
    run(*longer)  # goes on, with the best weights at hand
    assert record(there)["best_epoch"] == 1
    again = torch.load(there / artifacts.epoch_weights(1), weights_only=True)
    found = quick_runs.weights(there, "best")
    assert all(torch.equal(value, found[name]) for name, value in again.items())


def test_a_model_file_is_data(tmp_path: Path) -> None:
    torch.save(
        {"model": {"_target_": "os.system"}, "size": 8, "patches": 1, "state_dict": {}}, tmp_path / "m.pt"
    )
    with pytest.raises(ValueError, match=r"m\.pt: not a usable model"):
        weights.load_model(tmp_path / "m.pt")


def test_a_finished_run_is_not_overwritten(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {path: path.stat().st_mtime_ns for path in whole.rglob("*.*") if path.is_file()}
    capsys.readouterr()
    command(*AS_WHOLE)
    assert "finished already" in capsys.readouterr().out
    untouched = {path: path.stat().st_mtime_ns for path in files}
    log = whole / artifacts.TRAIN_LOG
    assert {**untouched, log: 0} == {**files, log: 0}
    with pytest.raises(SystemExit) as refused:
        command(*AS_WHOLE, "optimizer.lr=0.5")
    assert refused.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "optimizer.lr=0.003" in said[0]


def test_resume_never_sets_an_earlier_run_aside(whole: Path, tmp_path: Path) -> None:
    there = shutil.copytree(whole, tmp_path / "older")
    run(*SMALL, f"run_dir={there}", "resume=never")
    states = [record(path)["state"] for path in (there, there.with_name("older-previous-1"))]
    assert set(states) <= set(artifacts.RESULT_STATES)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.accelerator=gpu"], "trainer.accelerator=gpu"),
        (["data.batch_size=5000", "data.drop_last=true"], "data.batch_size=5000"),
        (["data=measured", "data.path=nowhere.npz"], "nowhere.npz"),
        (["data.size=16"], "data.size=16"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_only_shows_when_running_is_one_line_too(
    overrides: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if overrides == ["trainer.accelerator=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    base = [entry for entry in SMALL if not (overrides[0].startswith("data=") and entry.startswith("data="))]
    with pytest.raises(SystemExit) as refused:
        command(*base, *overrides, f"run_dir={tmp_path / 'run'}")
    lines = capsys.readouterr().err.strip().splitlines()
    assert refused.value.code == 2 and len(lines) == 1 and said in lines[0]
    assert record(tmp_path / "run")["state"] == "failed"


def measured_scan(path: Path) -> None:
    """A scan in tike's layout, made from a random smooth object."""
    generator = np.random.default_rng(0)
    axis = np.arange(32) - 16
    square = axis[:, None] ** 2 + axis**2
    probe = np.exp(-square / 40 + 1j * square / 40)
    obj = np.exp(1j * np.cumsum(np.cumsum(generator.normal(size=(80, 80)), 0), 1) / 80)
    scan = generator.uniform(0, 47, size=(60, 2)).astype(np.float32)
    corner = np.floor(scan).astype(int)
    patches = np.stack([obj[r : r + 32, c : c + 32] for r, c in corner])
    counts = generator.poisson(1e4 * np.abs(np.fft.fft2(probe * patches, norm="ortho")) ** 2)
    np.savez(
        path,
        data=counts[None].astype(np.float32),
        probe=probe[None, None, None, None].astype(np.complex64),
        scan=scan[None] - 20,
    )


def test_a_measured_scan_trains_without_a_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured_scan(tmp_path / "scan.npz")
    run(
        "data=measured",
        f"data.path={tmp_path / 'scan.npz'}",
        *SMALL[1:],
        f"run_dir={tmp_path / 'run'}",
    )
    metrics = artifacts.read_json(tmp_path / "run" / artifacts.METRICS)
    assert metrics["ssim"] == [None, None] and 0 < metrics["diffraction_error"] < 2
    said = capsys.readouterr().out
    assert "error of held-out patterns as the object of all others predicts them" in said
    assert "SSIM" not in said


def test_a_run_whose_last_loss_is_not_finite_shows_its_result_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptychofno.training.module import PhysicsSupervised

    healthy = PhysicsSupervised.validation_step

    def broken_later(module: PhysicsSupervised, amplitude: torch.Tensor, index: int) -> Any:
        if module.current_epoch:
            module.loss.forward = lambda predicted, measured: torch.tensor(torch.nan)
        return healthy(module, amplitude, index)

    monkeypatch.setattr(PhysicsSupervised, "validation_step", broken_later)
    typed = [*SMALL, "trainer.max_epochs=2", f"run_dir={tmp_path / 'run'}"]
    run(*typed)
    assert record(tmp_path / "run")["state"] == "diverged"
    capsys.readouterr()
    run(*typed)
    assert "validation loss not finite (best" in capsys.readouterr().out


def test_small_losses_are_shown_to_four_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = {"final_val_loss": 1.23456e-4, "best_val_loss": 1.23412e-4, "flat_baseline": 0.0298765}
    said = {"state": "completed", "seconds": {"total": 1}, "best_epoch": 1, "epochs": 2, **losses}
    terminal.show_result(make_console(), SimpleNamespace(path=tmp_path, record=said))
    line = capsys.readouterr().out
    assert "validation loss 0.0001235 (best 0.0001234 in epoch 1 of 2; best flat object 0.02988)" in line


def test_a_warm_up_that_outlasts_the_run_is_noted_and_names_are_printed_to_the_letter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "x [red]y[/b]"
    for warm_up in (0, 1):
        run(
            *SMALL,
            "scheduler=warmup_cosine",
            f"scheduler.warmup_epochs={warm_up}",
            f"run_dir='{odd}-{warm_up}'",
        )
        out = capsys.readouterr().out
        assert f"{odd}-{warm_up}/{artifacts.METRICS}" in out
        said = [line for line in out.splitlines() if line.startswith("note: ")]
        assert len(said) == warm_up
    assert "scheduler.warmup_epochs=1 is not over after trainer.max_epochs=1" in said[0]


def test_a_diverged_run_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(*SMALL, "optimizer.lr=1e30", "clip=none", "scheduler=default", f"run_dir={tmp_path / 'run'}")
    said = record(tmp_path / "run")
    assert said["state"] == "diverged" and "not finite in epoch 1" in said["error"]
    assert "diverged" in capsys.readouterr().out
    rows = (tmp_path / "run" / artifacts.GRAD_NORMS).read_text().splitlines()
    assert len(rows) > 1 and "nan" in rows[-1]
    assert (tmp_path / "run" / artifacts.CURVES_FIGURE).exists()
    assert artifacts.read_json(tmp_path / "run" / artifacts.STATS)["nan"] is True


def test_data_that_changed_since_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [
        "data=measured",
        f"data.path={tmp_path / 'scan.npz'}",
        *SMALL[1:],
        f"run_dir={tmp_path / 'run'}",
    ]
    measured_scan(tmp_path / "scan.npz")
    run(*typed)
    with np.load(tmp_path / "scan.npz") as scan:
        changed = {**scan, "data": scan["data"] + 1}
    np.savez(tmp_path / "scan.npz", **changed)
    with pytest.raises(SystemExit):
        command(*typed)
    assert "was trained on dataset" in capsys.readouterr().err
    assert record(tmp_path / "run")["state"] in artifacts.RESULT_STATES


@pytest.mark.parametrize(("name", "content"), [(artifacts.RUN, ""), (artifacts.CONFIG, "garbage: [")])
def test_a_damaged_run_is_named_with_the_way_out(
    name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "run"
    there.mkdir()
    artifacts.write_json(there / artifacts.RUN, {"state": "completed"})
    (there / name).write_text(content)
    with pytest.raises(SystemExit) as refused:
        command(*SMALL, f"run_dir={there}")
    lines = capsys.readouterr().err.strip().splitlines()
    assert refused.value.code == 2 and len(lines) == 1
    assert str(there / name) in lines[0] and "resume=never" in lines[0]


def _stop_in_the_second_epoch(bar: ProgressBar, trainer: Any, *_: Any) -> None:
    if trainer.current_epoch == 1:
        raise Interrupted(signal.SIGTERM)


def test_a_damaged_checkpoint_is_named_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [*SMALL, "trainer.max_epochs=2", f"run_dir={tmp_path / 'run'}"]
    resume, best = (tmp_path / "run" / name for name in (artifacts.RESUME_CHECKPOINT, artifacts.BEST_WEIGHTS))
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(ProgressBar, "on_train_batch_end", _stop_in_the_second_epoch)
        command(*two)
    whole = best.read_bytes()
    for file, content in ((best, whole[:-100]), (best, None), (resume, b"no checkpoint"), (resume, None)):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        elif file == resume:
            save_tensors(file, [1])
        with pytest.raises(SystemExit) as refused:
            command(*two)
        said = capsys.readouterr().err
        assert refused.value.code == 2
        assert said.startswith(f"{file}: cannot be resumed from") and "resume=never" in said
        best.write_bytes(whole)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_run_in_progress_is_left_alone(
    resume: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run(tmp_path / "run", "", "auto") as held:
        held.update(state="running")
        with pytest.raises(SystemExit):
            command(*SMALL, f"run_dir={tmp_path / 'run'}", f"resume={resume}")
        assert "another process is writing this run" in capsys.readouterr().err
        assert not (tmp_path / "run-previous-1").exists()


def test_a_finished_run_stays_finished_whatever_comes_after(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), open_run(tmp_path / "run", "", "auto") as held:
        held.update(state="completed")
        raise Interrupted(signal.SIGTERM)
    assert record(tmp_path / "run")["state"] == "completed"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "somewhere/best.pt")
    told = pytest.raises(ConfigError, match=r"^somewhere/best\.pt: No space left on device")
    with told, open_run(tmp_path / "run", "", "auto"):
        raise full
    assert record(tmp_path / "run")["state"] == "failed"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+model.block.gian=1"], "gian"),
        (["model.block._target_=nowhere.Mine"], "nowhere.Mine"),
        (["optimizer._target_=math.pi"], "math.pi"),
    ],
)
def test_a_wrong_class_of_a_users_own_is_one_line(
    overrides: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        command(*SMALL, *overrides, f"run_dir={tmp_path / 'run'}")
    lines = capsys.readouterr().err.strip().splitlines()
    assert refused.value.code == 2 and len(lines) == 1 and said in lines[0]


def test_a_run_gives_a_sweeper_its_objective(tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / artifacts.METRICS, {"ssim": [0.5, None], "phase_mae_rad": 0.1})
    finished = Run(tmp_path)
    finished.update(best_val_loss=0.2)
    found = [objective(finished, name) for name in ("best_val_loss", "ssim_amplitude", "phase_mae_rad")]
    assert found == [0.2, 0.5, 0.1] and math.isnan(objective(finished, "ssim_phase"))
    given = train(compose([*SMALL, f"run_dir={tmp_path / 'run'}"]))
    assert given == record(tmp_path / "run")["best_val_loss"]


def test_states() -> None:
    assert state_of(None, [0.3, 0.1], 0.3) == "completed"
    assert state_of(None, [0.1, 0.28], 0.3) == "collapsed"
    # After rounds towards noisy patterns, flat and true patches have nearly the same loss.
    assert state_of(None, [0.1, 0.28], 0.3, [0.03, 0.9]) == "completed"
    assert state_of(None, [0.1, 0.28], 0.3, [0.9, 0.03]) == "collapsed"
    assert state_of(None, [0.1, 0.28], 0.3, [float("nan")]) == "collapsed"
    assert state_of("loss is not finite in epoch 2", [0.1], 0.3) == "diverged"


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.slow),
    ],
)
def test_a_signal_interrupts_and_the_same_command_goes_on(signum: int, code: int, tmp_path: Path) -> None:
    arguments = [*SMALL, "trainer.max_epochs=400", f"run_dir={tmp_path / 'run'}"]
    typed = [sys.executable, "-m", "ptychofno.train", *arguments]
    in_a_slurm_job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "1"}
    process = subprocess.Popen(
        typed,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **in_a_slurm_job},
    )
    history = tmp_path / "run" / artifacts.HISTORY
    for _ in range(1200):
        if history.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signum)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "the same command goes on" in said
    assert record(tmp_path / "run")["state"] == "interrupted"
    assert [file.name for file in (tmp_path / "run").rglob("*.ckpt")] == ["resume.ckpt"]


def test_a_secret_from_the_environment_is_refused_where_it_would_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths may come from the environment, and are recorded as any setting."""
    monkeypatch.setenv("SECRET", "c0ffee")
    with pytest.raises(SystemExit):
        command("data.name=${oc.env:SECRET}", f"run_dir={tmp_path / 'run'}")
    assert "c0ffee" not in capsys.readouterr().err and not (tmp_path / "run").exists()
