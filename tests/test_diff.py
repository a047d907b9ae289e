"""What differs between arms, overrides, run directories and files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ptychofno import diff
from ptychofno.config.composition import compose
from ptychofno.config.records import resolved_yaml
from ptychofno.display.text import NONE
from ptychofno.runs import artifacts

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    diff.main([*argv, "--json"])
    return dict(json.loads(capsys.readouterr().out)["settings"])


def run_directory(name: str, *overrides: str, **changes: Any) -> Path:
    values = yaml.safe_load(resolved_yaml(compose([*overrides, f"run_dir={name}"])))
    path = Path(name)
    path.mkdir(parents=True)
    (path / artifacts.CONFIG).write_text(yaml.safe_dump({**values, **changes}))
    return path


def test_two_arms(capsys: pytest.CaptureFixture[str]) -> None:
    found = settings(capsys, "stable_warmup", "stable_warmup_lowlr")
    assert found == {"optimizer.lr": {"stable_warmup": 5e-4, "stable_warmup_lowlr": 2.5e-4}}


def test_what_an_arm_does_not_have_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings(capsys, "control", "agc")["clip.eps"] == {"agc": 1e-3}
    # Columns are aligned, and one key stands on a line.
    diff.main(["control", "agc", "stable_sgd"])
    header, *lines = capsys.readouterr().out.splitlines()
    starts = [header.index(name) for name in ("control", "agc", "stable_sgd")]
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    for line in lines:
        assert all(line[start - 1] == " " and line[start] != " " for start in starts)
    assert "\033" not in header
    (line,) = [line for line in lines if line.startswith("clip.eps")]
    assert line.split()[:3] == ["clip.eps", NONE, "0.001"]


def test_overrides_run_directories_and_files_are_the_same_kind_of_thing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_directory("outputs/agc/agc-seed1", "+arm=agc", "seed=1")
    shutil.copy(run / artifacts.CONFIG, "other.yaml")
    for same in ("+arm=agc seed=1", "other.yaml", f"{CONF}/arm/agc.yaml"):
        found = settings(capsys, str(run), same)
        assert set(found) == ({"seed"} if same.endswith("agc.yaml") else set())


def test_a_run_of_another_version(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory("old", "+arm=agc", trainer={"max_epochs": 7, "warp": True})
    found = settings(capsys, str(run), "agc")
    assert found["trainer.warp"] == {"old": True} and found["trainer.max_epochs"] == {"old": 7, "agc": 20}
    assert "old" not in found["trainer.precision"]


def test_where_and_how_is_left_out_unless_all(capsys: pytest.CaptureFixture[str]) -> None:
    both = ("+arm=agc run_dir=here trainer.num_threads=1", "agc")
    assert settings(capsys, *both) == {}
    everything = settings(capsys, *both, "--all")
    assert everything["run_dir"][both[0]] == "here" and everything["optimizer.lr"]["agc"] == 1e-3


def test_the_same_twice(capsys: pytest.CaptureFixture[str]) -> None:
    diff.main(["agc", "agc"])
    assert capsys.readouterr().out == "no setting differs\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("contrl", "contrl: no such arm, run directory or YAML file; did you mean control?"),
        ("empty", "empty: not a run directory, it has no config.yaml"),
        ("broken.yaml", "broken.yaml: not readable as settings"),
        ("loop.yaml", "loop.yaml: not readable as settings: it uses aliases"),
        ("list.yaml", "list.yaml: expected settings"),
        ("+arm=stable optimizer.lrr=1", "optimizer.lrr: no such setting; did you mean optimizer.lr?"),
    ],
)
def test_a_mistake_is_one_line(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("broken.yaml").write_text("a: [1,\n")
    Path("loop.yaml").write_text("a: &a\n  b: *a\n")
    Path("list.yaml").write_text("- 1\n")
    with pytest.raises(SystemExit) as exited:
        diff.main(["control", name])
    lines = capsys.readouterr().err.splitlines()
    assert exited.value.code == 2 and len(lines) == 1 and lines[0].startswith(said)


def test_a_run_directory_is_data(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    run = run_directory(
        "evil",
        "+arm=agc",
        defaults=["control"],
        note="${oc.env:SECRET}",
        title="\033[2Jgone",
        loss={"_target_": "os.mkdir", "path": "made"},
    )
    diff.main(["agc", str(run)])
    said = capsys.readouterr().out
    assert "${oc.env:SECRET}" in said and "hidden" not in said and "\033" not in said
    assert not Path("made").exists()
    Path("linked").mkdir()
    (Path("linked") / artifacts.CONFIG).symlink_to(run.resolve() / artifacts.CONFIG)
    with pytest.raises(SystemExit):
        diff.main(["agc", "linked"])
    (run / artifacts.CONFIG).write_text("a: !!python/object/apply:os.mkdir [made]\n")
    with pytest.raises(SystemExit):
        diff.main(["agc", str(run)])
    assert not Path("made").exists()


def test_a_terminal_sees_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    diff.main(["control", "agc"])
    assert "\033[32m0.01" in capsys.readouterr().out
