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

from ptychofno import build
from ptychofno.config import cli
from ptychofno.config.composition import compose
from ptychofno.config.errors import ConfigError
from ptychofno.processes import _TORCHRUN
from ptychofno.runs import artifacts, weights
from ptychofno.train import train
from ptychofno.training.history import KEYS

# Without what makes more of the order of sums: Muon's products in bfloat16 of larger matrices, and rounds
# behind the network, whose small gradients Muon magnifies.
SMALL = ["data=grid_lines_tiny", "logger=none", "model.hidden_channels=4", "model.modes=4"]
SMALL += ["model.max_hidden_channels=16", "model/output=patch"]
# 81 patterns: the last batch of 16 holds one, which only one of two processes can have.
SMALL += ["data.batch_size=16", "trainer.num_threads=1"]
# Steps so short that rounding is not magnified, however many epochs two processes have done before they end.
LONG = ["trainer.max_epochs=25", "optimizer=sgd", "optimizer.lr=1e-3", "scheduler=exponential"]
TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
pytestmark = [pytest.mark.usefixtures("_in_workplace"), pytest.mark.slow]  # each starts processes


def run(*overrides: str) -> None:
    cli.run(train, [*SMALL, *overrides])


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "ptychofno.train", *SMALL, *overrides]


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
        ["averaging=ema", "model.checkpoint_activations=true", "scheduler=plateau", "logger=tensorboard"],
        pytest.param(["clip=agc", "optimizer=sgd"], marks=pytest.mark.slow),
        pytest.param(["optimizer=muon"], marks=pytest.mark.slow),
        pytest.param(["clip=value", "clip.value=1e-3", "data.drop_last=true"], marks=pytest.mark.slow),
        pytest.param(["trainer.precision=bf16-mixed", "loss=poisson"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_two_processes_give_what_one_gives(
    choice: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = [*choice, "trainer.max_epochs=3"]
    run(*own, f"run_dir={tmp_path / 'one'}")
    alone = capfd.readouterr()
    run(*own, *TWO, f"run_dir={tmp_path / 'two'}")
    together = capfd.readouterr()
    if "trainer.precision=bf16-mixed" in choice:  # where rounding decides which gradients are exactly 0
        assert_same(tmp_path / "one", tmp_path / "two", rel=2e-2, near_0=("explained", "dead_weights"))
    else:
        assert_same(tmp_path / "one", tmp_path / "two")
    assert record(tmp_path / "two")["device"] == "2 x CPU, 1 thread"
    assert len(together.out.splitlines()) == len(alone.out.splitlines())  # one process prints
    # torch warns of a machine without a name in its own way
    assert [line for line in together.err.splitlines() if "[c10d]" not in line] == alone.err.splitlines()
    assert not torch.distributed.is_initialized() and not survivors(tmp_path / "two")


def test_the_number_of_processes_is_not_of_the_result() -> None:
    one, two = compose(SMALL), compose([*SMALL, *TWO])
    assert one.run_dir == two.run_dir
    assert "devices" not in one.trainer


# --- ends ------------------------------------------------------------------------------------


@needs_proc
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
    run(*LONG, *TWO, f"run_dir={run_dir}")
    assert record(run_dir)["resumed"] == 1
    run(*LONG, f"run_dir={tmp_path / 'whole'}")
    assert_same(tmp_path / "whole", run_dir, rel=1e-3)


@needs_proc
@pytest.mark.slow
def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        command("trainer.max_epochs=4000", *TWO, f"run_dir={run_dir}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for((run_dir / artifacts.HISTORY).exists, process)
    (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(other), signal.SIGKILL)
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 1 and "rank 1 of 2 processes died with signal SIGKILL" in said
    assert record(run_dir)["state"] == "failed" and not survivors(run_dir)


@pytest.mark.slow
def test_all_diverge_together(tmp_path: Path) -> None:
    run(*TWO, "optimizer.lr=1e30", "clip=none", "scheduler=default", f"run_dir={tmp_path / 'run'}")
    said = record(tmp_path / "run")
    assert said["state"] == "diverged" and "not finite in epoch 1" in said["error"]


@pytest.mark.slow
def test_a_guard_does_the_same_in_all_processes(tmp_path: Path) -> None:
    """From the second epoch on at a learning rate at which it does not diverge."""
    own = ["optimizer.lr=1e26", "scheduler=default", "guard=rollback", "guard.lr_factor=1e-30"]
    own += ["trainer.max_epochs=3"]
    run(*own, f"run_dir={tmp_path / 'one'}")
    run(*own, *TWO, f"run_dir={tmp_path / 'two'}")
    assert_same(tmp_path / "one", tmp_path / "two")
    one, two = (record(tmp_path / name)["interventions"] for name in ("one", "two"))
    assert one == two and [entry["epoch"] for entry in one] == [1]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(f"run_dir={tmp_path / 'other'}", "trainer.max_epochs=1")
    checkpoint = tmp_path / "run" / artifacts.RESUME_CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    (tmp_path / "run" / artifacts.CONFIG).write_text((tmp_path / "other" / artifacts.CONFIG).read_text())
    checkpoint.write_bytes(b"not a checkpoint")
    capfd.readouterr()
    with pytest.raises(SystemExit) as refused:
        run(*TWO, f"run_dir={tmp_path / 'run'}", "trainer.max_epochs=1")
    said = capfd.readouterr().err.strip()
    assert refused.value.code == 2 and "\n" not in said
    assert f"{checkpoint}: cannot be resumed from" in said


# --- started from outside --------------------------------------------------------------------


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    own = ["trainer=ddp", "trainer.max_epochs=2", f"run_dir={tmp_path / 'run'}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *command(*own)[1:]]
    for end in ("training ", "run is finished already"):
        done = subprocess.run(torchrun, capture_output=True, text=True, check=True, timeout=300)
        assert end in done.stdout.splitlines()[0]
    refused = subprocess.run(
        [*torchrun, "optimizer.lrr=1"], capture_output=True, text=True, check=False, timeout=300
    )
    assert refused.stderr.count("did you mean optimizer.lr?") == 1
    run("trainer.max_epochs=2", f"run_dir={tmp_path / 'one'}")
    assert_same(tmp_path / "one", tmp_path / "run")


@pytest.mark.slow
def test_tasks_of_a_slurm_step_stop_together(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    step = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NODELIST": "localhost",
    }
    tasks = [
        subprocess.Popen(
            command("trainer=ddp", "trainer.max_epochs=4000", f"run_dir={run_dir}"),
            env={**os.environ, **step, "SLURM_PROCID": task, "SLURM_LOCALID": task},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task in "01"
    ]
    wait_for((run_dir / artifacts.HISTORY).exists, *tasks)
    tasks[1].send_signal(signal.SIGTERM)
    said = [task.communicate(timeout=180)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [143, 143], said
    assert "the same command goes on" in said[0] and said[1] == ""
    assert record(run_dir)["state"] == "interrupted"


@pytest.mark.slow
def test_a_sweep_of_the_cluster_launcher(tmp_path: Path) -> None:
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2"]
    launcher += [f"hydra.launcher.submitit_folder={tmp_path / 'submitit'}", "hydra.launcher.timeout_min=5"]
    swept = command(
        "-m", "trainer=ddp", "trainer.max_epochs=2", f"run_dir={tmp_path}/s-${{seed}}", "seed=1,2"
    )
    done = subprocess.run([*swept, *launcher], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert record(tmp_path / "s-1")["device"].startswith("2 x CPU")
    run("trainer.max_epochs=2", "seed=2", f"run_dir={tmp_path / 'one'}")
    assert_same(tmp_path / "one", tmp_path / "s-2")


# --- refusals --------------------------------------------------------------------------------

REFUSED = {
    "trainer.devices=2": "trainer.devices: no such setting of the chosen trainer; it belongs to trainer=ddp",
    "trainer=ddp trainer.devices=0": "trainer.devices=0: expected an integer >= 1 and <= 1024",
    "trainer=ddp trainer.devices=3": "data.batch_size=16: the batch of all 3 processes together, expected a "
    "multiple of 3; the nearest is 15 or 18",
    "trainer=ddp trainer.strategy=fsdp": "trainer.strategy=fsdp: fixed to ddp by the chosen file",
    "trainer=ddp trainer.accelerator=cpu": "trainer.devices: needs a value on a CPU: how many processes",
    "trainer=ddp trainer.devices=800 data.batch_size=800 trainer.accelerator=cpu": "trainer.devices=800: "
    f"more processes than the {max(2, os.cpu_count() or 1)} cores there are",
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


def test_several_processes_for_a_run_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(_TORCHRUN, ("0", "2", "0", "2", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as refused:
        run(f"run_dir={tmp_path}/run")
    assert refused.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said == "trainer: 2 processes were started for a run of one; add trainer=ddp"


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run(*overrides.split(), f"run_dir={tmp_path}/run-${{seed}}")
    assert refused.value.code == 2
    assert capsys.readouterr().err.strip() == REFUSED[overrides]
    assert not list(tmp_path.glob("run-*/run.json"))


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert build.processes(compose([*SMALL, "trainer=ddp"])).size == 2
    with pytest.raises(ConfigError, match=r"^trainer\.devices=4: each process needs a GPU, there are 2$"):
        build.processes(compose([*SMALL, "trainer=ddp", "trainer.devices=4"]))


def test_as_many_as_were_started_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "node-1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    group = build.processes(compose([*SMALL, "trainer=ddp", "trainer.accelerator=cpu"]))
    assert (group.rank, group.size, group.local_rank, group.local_size) == (5, 8, 1, 4)
    with pytest.raises(SystemExit):  # the process of local rank 0 says why
        build.processes(compose([*SMALL, *TWO]))
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigError, match=r"^trainer\.devices=2: 4 processes were started on this node$"):
        build.processes(compose([*SMALL, *TWO]))
