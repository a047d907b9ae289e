"""Directories and files that are somebody else's, damaged or half written."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from ptychofno import diff
from ptychofno.config.errors import ConfigError
from ptychofno.display.terminal import show_result
from ptychofno.display.text import make_console
from ptychofno.runs import artifacts
from ptychofno.runs.artifacts import load_tensors, save_tensors
from ptychofno.runs.directory import begin, open_run
from ptychofno.runs.standing import recorded_state


def refusal(path: Path, resume: str = "auto") -> str:
    with pytest.raises(ConfigError) as refused, open_run(path, "seed: 1\n", resume):
        pytest.fail("opened")
    return str(refused.value)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_of_somebody_elses_is_left_alone(
    resume: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for path in (Path(), tmp_path, Path("/")):
        assert refusal(path, resume).startswith(f"run_dir={path}: is not empty and holds no run")
    assert os.listdir(tmp_path) == ["model.pt"] and (tmp_path / "model.pt").read_text() == "mine"


def test_a_run_that_died_before_its_record_goes_on_and_leaves_no_litter(tmp_path: Path) -> None:
    for name in (artifacts.LOCK, artifacts.TRAIN_LOG, ".run-abcd_123.json"):
        (tmp_path / name).touch()
    with open_run(tmp_path, "", "auto") as run:
        run.update(state="running")
    litter = tmp_path / artifacts.CHECKPOINTS_DIR / ".resume-k3x_9z0a.ckpt"
    litter.parent.mkdir()
    litter.touch()
    (litter.parent / ".of-a-user").touch()
    with open_run(tmp_path, "", "auto"):
        assert os.listdir(litter.parent) == [".of-a-user"]
    assert not list(tmp_path.glob(".run-*"))


def test_a_record_holds_no_secret_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "seed=1", "+hydra.job.env_set.TOKEN=hunter2\nhunter2"])
    with open_run(tmp_path, "", "auto") as run:
        begin(run, resume=False, dataset_key="")
    record = (tmp_path / artifacts.RUN).read_text()
    assert "hunter2" not in record and "seed=1" in record and "env_set.TOKEN=***" in record


def test_the_working_directory_is_not_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "run"
    with open_run(here, "", "auto") as run:
        run.update(state="failed")
    monkeypatch.chdir(here)
    assert "is where you are" in refusal(Path(), "never")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    "name", [artifacts.TRAIN_LOG, artifacts.LOCK, artifacts.HYDRA_DIR, "reconstructions/x/metrics.json"]
)
def test_nothing_is_read_or_written_through_a_link(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside, there = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (there / name).parent.mkdir(parents=True)
    (there / name).symlink_to(outside)
    artifacts.write_json(there / artifacts.RUN, {"state": "completed"})
    artifacts.write_text(there / artifacts.CONFIG, "seed: 1\n")
    assert refusal(there).startswith(f"{there / name}: is a link")
    with pytest.raises(SystemExit):
        diff.main([str(there), "control"])
    assert f"{there / name}: is a link" in capsys.readouterr().err
    assert os.listdir(outside) == []


@pytest.mark.parametrize("name", [artifacts.RUN, artifacts.CONFIG])
@pytest.mark.parametrize("kind", ["huge", "deep", "list", "word for a number"])
def test_what_a_record_may_not_be(name: str, kind: str, tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / artifacts.RUN, {"state": "completed"})
    artifacts.write_text(tmp_path / artifacts.CONFIG, "seed: 1\n")
    content = {"huge": "# x\n" * 2**22 + "1", "deep": "[" * 10**4, "list": "[1]"}
    artifacts.write_text(tmp_path / name, content.get(kind, '{"state": "failed", "resumed": "x"}'))
    if (name, kind) != (artifacts.CONFIG, "word for a number"):
        assert refusal(tmp_path).startswith(f"{tmp_path / name}: cannot be read; resume=never")


@pytest.mark.parametrize("values", [{}, {"seconds": 1}, {"seconds": {"total": "x"}, "best_epoch": 0}])
def test_a_result_that_cannot_be_shown_is_one_line(values: dict[str, object], tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / artifacts.RUN, {"state": "completed", **values})
    artifacts.write_text(tmp_path / artifacts.CONFIG, "seed: 1\n")
    with pytest.raises(ConfigError, match="resume=never"), open_run(tmp_path, "seed: 1\n", "auto") as run:
        show_result(make_console(), run)


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / artifacts.RUN)
    assert recorded_state(tmp_path) == "unreadable"
    assert "no plain file" in refusal(tmp_path)


def test_a_finished_run_is_shown_from_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    artifacts.write_json(tmp_path / artifacts.RUN, {"state": "completed"})
    artifacts.write_text(tmp_path / artifacts.CONFIG, "seed: 1\n")
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with open_run(tmp_path, "seed: 1\n", "auto") as run:
        assert run.finished
    artifacts.write_json(tmp_path / artifacts.RUN, {"state": "interrupted"})
    assert refusal(tmp_path) == f"run_dir={tmp_path}: cannot be written: Read-only file system"


def test_a_class_that_exits_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"sys\.exit\(0\) was called"), open_run(tmp_path, "", "auto"):
        raise SystemExit(0)
    assert artifacts.read_json(tmp_path / artifacts.RUN)["state"] == "failed"


def test_one_flipped_byte_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    save_tensors(file, {"weight": torch.zeros(1000)})
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    assert not load_tensors(file)["weight"].any()
    file.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        load_tensors(file)


def test_a_full_disk_is_said_by_the_system(tmp_path: Path) -> None:
    """Of torch's own writer one hears of an unexpected position."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            save_tensors(tmp_path / "best.pt", torch.zeros(4096))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full.value.errno == errno.EFBIG and os.listdir(tmp_path) == []
    with pytest.raises(ConfigError, match="the same command goes on"), open_run(tmp_path, "", "auto"):
        raise full.value
