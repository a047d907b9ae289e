"""One run on several processes: the same numbers as on one, one writer, and all of them end together."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch

from ptychofno.command import line
from ptychofno.config.composition import compose
from ptychofno.runs import artifacts, weights
from ptychofno.train import train
from ptychofno.training.history import KEYS

# Without what makes more of the order of sums: Muon's products in bfloat16 of larger matrices, and rounds
# behind the network, whose small gradients Muon magnifies.
SMALL = ["data=grid_lines_tiny", "logger=none", "model.hidden_channels=4", "model.modes=4", "refine=none"]
SMALL += ["model.max_hidden_channels=16", "model/output=patch"]
# 81 patterns: the last batch of 16 holds one, which only one of two processes can have.
SMALL += ["data.batch_size=16", "trainer.num_threads=1"]
# Steps so short that rounding is not magnified, however many epochs two processes have done before they end.
LONG = ["trainer.max_epochs=25", "optimizer=sgd", "optimizer.lr=1e-3", "scheduler=exponential"]
TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
pytestmark = pytest.mark.usefixtures("_in_workplace")


def run(*overrides: str) -> None:
    line.run(train, [*SMALL, *overrides])


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "ptychofno.train", *SMALL, *overrides]


def run_two(*overrides: str) -> subprocess.CompletedProcess[str]:
    """Two processes that Lightning starts."""
    return subprocess.run(command(*TWO, *overrides), capture_output=True, text=True, check=False, timeout=300)


def record(run_dir: Path) -> dict[str, Any]:
    return dict(artifacts.read_json(run_dir / artifacts.RUN))


def assert_same(one: Path, other: Path, rel: float = 1e-4, near_0: Collection[str] = ("explained",)) -> None:
    """History and weights agree up to the order of sums; what may be ``near_0`` to ``rel`` itself.

    Explained is 1 minus a ratio, near 0 on the plateau.
    """
    histories = [artifacts.read_json(path / artifacts.HISTORY) for path in (one, other)]
    for key in set(KEYS) - {"seconds"}:
        expected, found = ([math.nan if v is None else v for v in history[key]] for history in histories)
        least = rel if key in near_0 else None
        assert found == pytest.approx(expected, rel=rel, abs=least, nan_ok=True), key
    networks = [weights.load_model(path / artifacts.MODEL).state_dict() for path in (one, other)]
    assert list(networks[0]) == list(networks[1])
    for name, weight in networks[0].items():
        torch.testing.assert_close(networks[1][name], weight, rtol=rel, atol=rel * float(weight.abs().max()))
    steps = [(path / artifacts.GRAD_NORMS).read_text().count("\n") for path in (one, other)]
    assert steps[0] == steps[1]


def survivors(run_dir: Path) -> list[str]:
    """Command lines of processes that are at a run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if f"run_dir={run_dir}" in line:
            found.append(line)
    return found


def wait_for(condition: Any, *processes: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 300
    while not condition() and all(process.poll() is None for process in processes):
        assert time.monotonic() < ends
        time.sleep(0.05)


# --- the same numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice",
    [
        # Amplitudes alone: one channel, where DDP would warn of strides.
        pytest.param(
            ["model/inputs=amplitude", "optimizer=sgd", "scheduler=plateau"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["clip=agc", "optimizer=sgd", "model.checkpoint_activations=true", "logger=tensorboard"],
            marks=pytest.mark.slow,
        ),
        pytest.param(["optimizer=muon"], marks=pytest.mark.slow),
        pytest.param(["optimizer=sgd", "data.thinning=0.5"], marks=pytest.mark.slow),
        pytest.param(["clip=value", "clip.value=1e-3", "data.drop_last=true"], marks=pytest.mark.slow),
        pytest.param(["trainer.precision=bf16-mixed", "loss=poisson"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_two_processes_give_what_one_gives(
    choice: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = [*choice, "trainer.max_epochs=2"]
    run(*own, f"run_dir={tmp_path / 'one'}")
    alone = capfd.readouterr()
    together = run_two(*own, f"run_dir={tmp_path / 'two'}")
    assert together.returncode == 0, together.stderr
    if "trainer.precision=bf16-mixed" in choice:  # where rounding decides which gradients are exactly 0
        assert_same(tmp_path / "one", tmp_path / "two", rel=2e-2, near_0=("explained", "dead_weights"))
    else:
        assert_same(tmp_path / "one", tmp_path / "two")
    assert record(tmp_path / "two")["device"] == "2 x CPU, 1 thread"
    assert len(together.stdout.splitlines()) == len(alone.out.splitlines())  # one process prints
    # torch warns of a machine without a name in its own way
    assert [line for line in together.stderr.splitlines() if "[c10d]" not in line] == alone.err.splitlines()
    assert not survivors(tmp_path / "two")


def test_the_number_of_processes_is_not_of_the_result() -> None:
    one, two = compose(SMALL), compose([*SMALL, *TWO])
    assert one.run_dir == two.run_dir
    assert (one.trainer.devices, two.trainer.devices) == (None, 2)


# --- ends ------------------------------------------------------------------------------------


@needs_proc
@pytest.mark.slow
def test_ctrl_c_stops_all_and_one_process_may_go_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        command(*LONG, *TWO, f"run_dir={run_dir}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for((run_dir / artifacts.HISTORY).exists, process)
    assert len(survivors(run_dir)) == 2
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 130, said
    assert said.count("\n") == 2 and "the same command goes on" in said
    assert not survivors(run_dir)
    assert record(run_dir)["state"] == "interrupted"
    assert (run_dir / artifacts.RESUME_CHECKPOINT).exists()
    run(*LONG, f"run_dir={run_dir}")
    assert record(run_dir)["resumed"] == 1
    run(*LONG, f"run_dir={tmp_path / 'whole'}")
    assert_same(tmp_path / "whole", run_dir, rel=1e-3)


@needs_proc
@pytest.mark.slow
def test_a_kill_takes_all_along_and_two_processes_go_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        command(*LONG, *TWO, f"run_dir={run_dir}"), stdout=subprocess.DEVNULL, text=True
    )
    wait_for((run_dir / artifacts.HISTORY).exists, process)
    process.kill()
    process.wait()
    wait_for(lambda: not survivors(run_dir))
    assert record(run_dir)["state"] == "running"
    assert run_two(*LONG, f"run_dir={run_dir}").returncode == 0
    assert record(run_dir)["resumed"] == 1
    run(*LONG, f"run_dir={tmp_path / 'whole'}")
    assert_same(tmp_path / "whole", run_dir, rel=1e-3)


@needs_proc
@pytest.mark.slow
def test_a_process_that_dies_ends_the_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        command("trainer.max_epochs=4000", *TWO, f"run_dir={run_dir}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for((run_dir / artifacts.HISTORY).exists, process)
    (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(other), signal.SIGKILL)
    assert process.wait(timeout=180) != 0
    # Of its own, or by Lightning's watch over the processes that it has started.
    assert record(run_dir)["state"] in ("failed", "running") and not survivors(run_dir)
    assert (run_dir / artifacts.RESUME_CHECKPOINT).exists()


@pytest.mark.slow
def test_all_diverge_together(tmp_path: Path) -> None:
    run_two("optimizer.lr=1e30", "clip=none", "scheduler=default", f"run_dir={tmp_path / 'run'}")
    said = record(tmp_path / "run")
    assert said["state"] == "diverged" and "not finite in epoch 1" in said["error"]


# --- started from outside --------------------------------------------------------------------


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    own = [*TWO, "trainer.max_epochs=2", f"run_dir={tmp_path / 'run'}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *command(*own)[1:]]
    for end in ("training ", "run is finished already"):
        done = subprocess.run(torchrun, capture_output=True, text=True, check=True, timeout=300)
        assert end in done.stdout.splitlines()[0]
    for wrong, said in (
        ("optimizer.lrr=1", "did you mean optimizer.lr?"),
        ("run_dir=elsewhere trainer.devices=4", "does not match the world size (2)"),
    ):
        refused = subprocess.run(
            [*torchrun, *wrong.split()], capture_output=True, text=True, check=False, timeout=300
        )
        assert refused.returncode != 0 and refused.stderr.count(said) == 1
    run("trainer.max_epochs=2", f"run_dir={tmp_path / 'one'}")
    assert_same(tmp_path / "one", tmp_path / "run")


@pytest.mark.slow
def test_tasks_of_a_slurm_step_stop_together(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    step = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "training",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
    }
    tasks = [
        subprocess.Popen(
            command(*TWO, "trainer.max_epochs=4000", f"run_dir={run_dir}"),
            env={**os.environ, **step, "SLURM_PROCID": task, "SLURM_LOCALID": task},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task in "01"
    ]
    wait_for((run_dir / artifacts.HISTORY).exists, *tasks)
    tasks[1].send_signal(signal.SIGUSR1)  # by which Lightning would queue the job anew
    said = [task.communicate(timeout=180)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [128 + signal.SIGUSR1, 0], said
    assert "the same command goes on" in said[0] and said[1] == ""
    assert record(run_dir)["state"] == "interrupted"


# --- refusals --------------------------------------------------------------------------------

REFUSED = {
    "trainer.devices=2": "trainer.devices=2: one process trains; add trainer=ddp for several",
    "trainer=ddp trainer.devices=0": "trainer.devices=0: expected an integer >= 1 and <= 1024 or null",
    "trainer=ddp trainer.devices=3": "data.batch_size=16: the batch of all 3 processes together, expected a "
    "multiple of 3; the nearest is 15 or 18",
    "trainer=ddp trainer.strategy=fsdp": "trainer.strategy=fsdp: expected one of auto, ddp",
    **{
        f"-m trainer=ddp trainer.devices=2 seed=1,2 hydra/launcher={launcher}": "trainer=ddp: a sweep of the "
        f"{launcher} launcher gives each run one process; start the runs one by one without -m, or on a "
        "cluster add hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=2"
        for launcher in ("basic", "joblib")
    },
    "-m trainer=ddp trainer.devices=2 seed=1,2 hydra/launcher=submitit_slurm": "trainer.devices=2: a process "
    "is a task of the launcher; add hydra.launcher.tasks_per_node=2, now 1",
    "-m trainer=ddp hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=4 hydra.launcher.nodes=5 "
    "seed=1,2": "data.batch_size=16: the batch of all 20 processes together, expected a multiple of 20; the "
    "nearest is 20",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run(*overrides.split(), f"run_dir={tmp_path}/run-${{seed}}")
    assert refused.value.code == 2
    assert capsys.readouterr().err.strip() == REFUSED[overrides]
    assert not list(tmp_path.glob("run-*/run.json"))


def test_what_lightning_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NTASKS": "2", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(SystemExit) as refused:
        run("trainer=ddp", "trainer.accelerator=cpu", f"run_dir={tmp_path / 'run'}")
    said = capsys.readouterr().err.strip()
    assert refused.value.code == 2 and "\n" not in said
    assert said.startswith("trainer: You set `--ntasks=2`") and "--ntasks-per-node=2" in said
