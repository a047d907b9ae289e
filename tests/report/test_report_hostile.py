"""Run directories of somebody who means harm: read as data, and never beyond themselves."""

from __future__ import annotations

import json
import os
import re
import zlib
from base64 import b64decode
from html import escape
from pathlib import Path

import numpy as np
import pytest
import yaml
from run_directories import RunWriter, settings

from ptychofno.display.text import one_line
from ptychofno.report.__main__ import PAGE, ROWS, main
from ptychofno.report.runs import read
from ptychofno.report.tables import in_spreadsheet

SECRET = "hunter2-not-for-you"
INJECTION = "<script>document.title='owned'</script>"


def written(study: Path) -> str:
    return "\n".join((study / name).read_text(encoding="utf-8") for name in (PAGE, ROWS))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.json"
    path.write_text(json.dumps({"state": "completed", "arm": SECRET, "error": SECRET}))
    return path


def test_links_are_not_followed(
    add_run: RunWriter, study_dir: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["run.json", "config.yaml", "history.json", "metrics.json", "stats.json"]
    for seed, name in enumerate([*names, "reconstruction.png"]):
        path = add_run("control", seed)
        (path / name).unlink()
        (path / name).symlink_to(secret)
        if name in names:
            assert f"{name}: a link, or not readable" in read(path).problems
    main([str(study_dir)])
    assert SECRET not in written(study_dir) + capsys.readouterr().out


def test_a_linked_folder_is_not_followed(add_run: RunWriter, tmp_path: Path) -> None:
    path = add_run("control", 1)
    elsewhere = tmp_path / "elsewhere"
    (path / ".hydra").rename(elsewhere)
    (path / ".hydra").symlink_to(elsewhere)
    assert read(path).problems == (".hydra/overrides.yaml: a link, or not readable",)


def test_no_message_repeats_what_a_file_holds(add_run: RunWriter) -> None:
    path = add_run("control", 1)
    for name in ("run.json", "config.yaml", "history.json", "stats.json"):
        (path / name).write_text(f"{{ {SECRET}: [\n\t{SECRET}")
    run = read(path)
    assert len(run.problems) == 4 and SECRET not in repr(run.problems)


def test_what_is_written_replaces_a_link(add_run: RunWriter, study_dir: Path, tmp_path: Path) -> None:
    add_run("control", 1)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (PAGE, ROWS):
        (study_dir / name).symlink_to(victim)
    main([str(study_dir)])
    assert victim.read_text() == "precious"
    assert not any((study_dir / name).is_symlink() for name in (PAGE, ROWS))


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "history.json", "stats.json"])
def test_neither_endless_nor_huge_files_are_read(add_run: RunWriter, name: str) -> None:
    path = add_run("control", 1)
    (path / name).unlink()
    os.mkfifo(path / name)
    assert f"{name}: not a plain file" in read(path).problems
    (path / name).unlink()
    with (path / name).open("wb") as file:
        file.truncate(2**40)
    assert any(problem.startswith(f"{name}: larger than") for problem in read(path).problems)


BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(b)}: &{chr(b)} [{','.join([f'*{chr(b - 1)}'] * 8)}]\n" for b in range(ord("b"), ord("k"))
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "- " * 100_000,
        "{a: " * 50_000,
        "\n".join(f"{' ' * depth}a:" for depth in range(500)),
        BOMB,
        "!!python/object/apply:os.system ['touch owned']",
        "a: !!python/name:os.system",
        "\x00",
    ],
    ids=["brackets", "dashes", "braces", "indents", "anchors", "call", "name", "zero byte"],
)
def test_yaml_is_plain_and_shallow(
    add_run: RunWriter, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = add_run("control", 1)
    (path / "config.yaml").write_text(text)
    assert read(path).problems == ("config.yaml: not readable as plain YAML",)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[1, 2]", "null", '{"seed": ' + "9" * 5000 + "}", "\ud800"],
    ids=["brackets", "braces", "list", "null", "long number", "not UTF-8"],
)
def test_json_is_an_object_or_nothing(add_run: RunWriter, text: str) -> None:
    path = add_run("control", 1)
    (path / "run.json").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    run = read(path)
    assert run.state == "unknown" and run.problems[0].startswith("run.json: not")


def test_values_of_a_wrong_type_are_missing(add_run: RunWriter, study_dir: Path) -> None:
    for seed, value in enumerate((None, True, "1", [["1"]], {"a": 1}, 1e400, 2**70, -0.5)):
        path = add_run("control", seed)
        holds_only(path, value)
        run = read(path)
        assert run.state == "unknown" and not np.isfinite(run.epochs).any()
    main([str(study_dir)])


def holds_only(path: Path, value: object) -> None:
    record = dict.fromkeys(
        ("state", "seed", "arm", "study", "error", "dataset_key", "git_commit", "versions", "device"), value
    )
    (path / "run.json").write_text(json.dumps({**record, "flat_baseline": value, "parameters": value}))
    for name in ("history.json", "metrics.json", "stats.json"):
        keys = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps(dict.fromkeys(keys, value)))
    (path / "config.yaml").write_text(yaml.safe_dump({"seed": None, 1: {2: [3]}, "optimizer": value}))


def png(width: int, height: int) -> bytes:
    """The head of a picture of that size, and nothing of it."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + head + zlib.crc32(head).to_bytes(4, "big")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        b"GIF89a",
        b"<svg onload='alert(1)'>",
        png(9, 9),
        png(99_999, 99_999),
        png(0, 0),
    ],
)
def test_a_broken_reconstruction_is_no_picture(add_run: RunWriter, content: bytes, study_dir: Path) -> None:
    path = add_run("control", 1)
    (path / "reconstruction.png").write_bytes(content)
    main([str(study_dir)])
    assert "<figcaption>" not in (study_dir / PAGE).read_text()


def test_interpolations_stay_text(
    add_run: RunWriter, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTYCHOFNO_SECRET", SECRET)
    add_run("control", 1)
    add_run("x", 1, config=settings(optimizer__lr="${oc.env:PTYCHOFNO_SECRET}", model="${now:%Y}"))
    main([str(study_dir)])
    text = written(study_dir)
    assert SECRET not in text and "${oc.env:PTYCHOFNO_SECRET}" in text


def test_names_and_values_are_only_text(
    add_run: RunWriter, study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run("control", 1)
    evil = f"{INJECTION}\"'|`](http://evil) [red]\x1b[31m\u202e=cmd()"
    path = add_run(
        "evil",
        1,
        directory="=cmd()-seed1",
        config=settings(**{"optimizer__" + evil.replace("__", ""): evil}),
        error=evil,
        device=f"@{evil}",
        dataset_key=evil,
        git_commit=evil,
        study="stage_a",
    )
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**record, "arm": evil}))
    main([str(study_dir), "--anyway"])
    page = (study_dir / PAGE).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    shown = capsys.readouterr().out
    for output in (shown, page):
        assert "\x1b[31m" not in output and "\u202e" not in output
    assert "[red]" in shown, "no markup for the terminal either"
    for line in (study_dir / ROWS).read_text().splitlines():
        assert not any(cell.lstrip('"').startswith(("=", "@", "+")) for cell in line.split(","))


@pytest.mark.draws
def test_figures_show_names_to_the_letter(add_run: RunWriter, study_dir: Path) -> None:
    add_run("control", 1)
    names = [r"$\\undefined{$", '<g id="dot1">', "<!-- --> ]]>", "\\1 &amp; %s {x}"]
    for number, name in enumerate(names):
        path = add_run(f"x{number}", 1, config=settings(optimizer__lr=1.0 + number))
        record = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps(record | {"arm": name}))
    main([str(study_dir)])
    images = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", (study_dir / PAGE).read_text())
    figures = "".join(b64decode(image).decode() for image in images)
    assert all(f">{escape(name, quote=False)}</text>" in figures for name in names)


def test_text_is_escaped_for_where_it_goes() -> None:
    assert one_line("a\x00\x1b[1m\u202eb\nc" + "x" * 500, 20) == "a[1mb cxxxxxxxxxxxx…"
    assert [in_spreadsheet(cell) for cell in ("=1", "-x", "a", -1.5, float("nan"))] == [
        "'=1",
        "'-x",
        "a",
        -1.5,
        "",
    ]


def test_an_unreadable_directory_is_a_run_in_no_known_state(tmp_path: Path) -> None:
    (tmp_path / "link-seed3").symlink_to(tmp_path)
    for name, problems in (("gone", False), ("link", True)):
        run = read(tmp_path / f"{name}-seed3")
        assert (run.arm, run.state, bool(run.problems)) == (name, "unknown", problems)


@pytest.mark.parametrize("huge", [-1e308, 5e-324])
def test_no_number_is_too_large_for_a_chart(add_run: RunWriter, study_dir: Path, huge: float) -> None:
    path = add_run("control", 1)
    for name in ("history.json", "metrics.json"):
        values = json.loads((path / name).read_text())
        strange = {key: [huge for _ in entry] for key, entry in values.items() if isinstance(entry, list)}
        (path / name).write_text(json.dumps(values | {k: v for k, v in strange.items() if k != "epoch"}))
    (path / "stats.json").write_text(json.dumps({"grad_norm": dict.fromkeys(("median", "p99", "max"), huge)}))
    main([str(study_dir)])
    assert "control" in written(study_dir)
