"""The command line: what starts, what does not, exit codes, and what is left on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import ptychofno
from ptychofno.command import line
from ptychofno.config.errors import ConfigError


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Recorder:
    """A task that notes its configurations, and does with each what ``then`` says."""

    def __init__(self, then: Callable[[DictConfig], Any] = lambda cfg: None) -> None:
        self.then = then
        self.seen: list[DictConfig] = []

    def __call__(self, cfg: DictConfig) -> Any:
        self.seen.append(cfg)
        return self.then(cfg)


def exit_code(task: Callable[[DictConfig], Any], *argv: str) -> Any:
    with pytest.raises(SystemExit) as exited:
        line.run(task, argv)
    return exited.value.code


def on_disk() -> set[str]:
    return {str(path) for path in Path().rglob("*") if not any(path.iterdir())}


def test_one_run() -> None:
    task = Recorder(lambda cfg: typed.append(sys.argv[1:]))
    typed: list[list[str]] = []
    before = list(sys.argv)
    line.run(task, ["+arm=control", "seed=4"])
    (cfg,) = task.seen
    assert cfg.run_dir == "outputs/control/control-seed4"
    assert not on_disk()  # a run makes its directory itself
    assert typed == [["+arm=control", "seed=4"]] and sys.argv == before


def test_a_sweep_runs_every_combination_in_a_directory_of_its_own() -> None:
    task = Recorder(lambda cfg: typed.append(sys.argv[1:]))
    typed: list[list[str]] = []
    argv = ["seed=1,2", "-m", "+arm=agc,stable", "resume=never"]
    line.run(task, argv)
    names = {f"outputs/{arm}/{arm}-seed{seed}" for arm in ("agc", "stable") for seed in (1, 2)}
    assert {cfg.run_dir for cfg in task.seen} == names
    assert on_disk() == names and typed == [argv] * 4


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["optimizer.lr=fast"], "optimizer.lr=fast: expected a number > 0"),
        (["--nonsense"], "unrecognized arguments: --nonsense; see --help"),
        (["-m", "seed=1,2", "optimizer.lr=1e-3,-1"], "optimizer.lr=-1: expected a number > 0"),
        (["-m", "+arm=agc,agcc"], "arm=agcc: expected one of agc, control"),
        (["-m", "a b=1"], "a b=1: cannot be read"),
        (
            ["-m", "trainer.accelerator=cpu,gpu"],
            "run_dir=outputs/default/default-seed0: two jobs would share it",
        ),
        (["-m", "--cfg", "job"], "-m is for several runs"),
        (["hydra.searchpath=[file://x]", "clip=mine"], "hydra.searchpath=[file://x]: further YAML files"),
        (["-m", "hydra.sweep.dir=x", "seed=1,2"], "hydra.sweep.dir=x: has no effect; run_dir=…"),
        (["--experimental-rerun", "x.pickle"], "unrecognized arguments: --experimental-rerun"),
        (["-m", "--run", "seed=1,2"], "-m is for several runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_nothing_starts(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Recorder()
    assert exit_code(task, *argv) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and output.err.startswith(said)
    assert task.seen == [] and on_disk() == set()


def fail(error: BaseException) -> Callable[[DictConfig], Any]:
    def then(cfg: DictConfig) -> None:
        raise error

    return then


def test_a_mistake_that_the_task_finds(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(Recorder(fail(ConfigError("data.path=x:\n  no such file")))) == 2
    assert capsys.readouterr().err == "data.path=x: no such file\n"


@pytest.mark.parametrize("override", ["optimizer.lr=-1", "loss=x", "seed=1"])
def test_of_several_processes_the_first_tells_a_mistake(
    override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert exit_code(Recorder(fail(ConfigError("data.path=x: no such file"))), override) == 2
    assert capsys.readouterr().err == ""


def test_an_interrupt_while_hydra_loads_is_quiet() -> None:
    program = """
import sys
class Interrupt:
    def find_spec(self, name, *rest):
        if name == "hydra":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from ptychofno.train import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_bug_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(Recorder(fail(ValueError("broken")))) == 1
    shown = capsys.readouterr().err
    assert "in then" in shown and "ValueError: broken" in shown and "HYDRA_FULL_ERROR" not in shown


def test_what_fails_in_a_sweep_stops_no_other_job_and_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    def then(cfg: DictConfig) -> None:
        if cfg.seed == 1:
            raise ConfigError("data.path=x: no such file")
        if cfg.seed == 2:
            raise RuntimeError("out of\nmemory")

    task = Recorder(then)
    assert exit_code(task, "-m", "+arm=agc", "seed=1,2,3") == 1
    assert [cfg.seed for cfg in task.seen] == [1, 2, 3]
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "2 runs of 3 failed:",
        "  outputs/agc/agc-seed1: data.path=x: no such file",
        "  outputs/agc/agc-seed2: RuntimeError: out of memory",
    ]


@pytest.mark.parametrize(
    ("argv", "error", "code"),
    [([], SystemExit(143), 143), (["-m", "seed=1,2"], KeyboardInterrupt(), 130)],
    ids=["run", "sweep"],
)
def test_a_stop_reaches_the_shell_and_ends_a_sweep(argv: list[str], error: BaseException, code: int) -> None:
    task = Recorder(fail(error))
    assert exit_code(task, *argv) == code
    assert len(task.seen) == 1


def test_a_run_dir_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert exit_code(Recorder(), "-m", "hydra/sweeper=basic", "run_dir=file/below") == 2
    assert capsys.readouterr().err.startswith(f"run_dir={Path('file/below').absolute()}: cannot be made")
    assert exit_code(Recorder(), "-m", "seed=1,2", "run_dir=/proc/nothing/${seed}") == 1
    assert capsys.readouterr().err.splitlines()[1].startswith("  /proc/nothing/1: cannot be made")


def test_help_names_every_arm_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    line.run(Recorder(), ["--help"])
    text = capsys.readouterr().out
    for word in (
        "stable_warmup",
        "model/block",
        "backprojection",
        "optimizer.lr=0.003",
        "learning rate",
        "-m",
        "crash_hunt",
    ):
        assert word in text
    assert "schema" not in text and "base/" not in text
    assert max(map(len, text.splitlines())) < 130


TASK = """
import sys
from ptychofno.command import line
from ptychofno.display.text import make_console

def task(cfg):
    make_console().print("\u2013")

line.run(task, sys.argv[1:])
"""


@pytest.mark.parametrize("argv", [["--help"], ["seed=1"]], ids=" ".join)
def test_a_reader_that_left_is_no_bug(argv: list[str]) -> None:
    """As in ``--help | head``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", TASK, *argv]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_terminal_and_no_notebook_ends_a_command() -> None:
    notebook = "module://matplotlib_inline.backend_inline"
    strange = {**os.environ, "PYTHONIOENCODING": "latin-1", "MPLBACKEND": notebook}
    program = f"{TASK}import matplotlib; print(matplotlib.rcParams['backend'])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=strange, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "?\nagg\n", "")
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", TASK], check=False)
    assert closed.returncode == 0


def test_a_refusal_does_not_command_the_terminal() -> None:
    assert str(ConfigError("x=\x1b[31m\x9b:  no\n")) == r"x=\x1b[31m\x9b: no"


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(Recorder(), "--version") == 0
    assert capsys.readouterr().out == f"ptychofno {ptychofno.__version__}\n"


def test_cfg_shows_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    line.run(Recorder(), ["--cfg", "job", "--resolve", "+arm=agc"])
    text = capsys.readouterr().out
    assert (
        "run_dir: outputs/agc/agc-seed20260128\n" in text
        and "ptychofno.training.clipping.AdaptiveClip" in text
    )
    assert on_disk() == set()
