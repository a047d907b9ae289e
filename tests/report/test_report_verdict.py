"""Ranking, verdict and what must not be ranked together."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_directories import RunWriter, settings, write_flat

from ptychofno.config.errors import ConfigError
from ptychofno.report import evidence, tables
from ptychofno.report.page import page
from ptychofno.report.study import Study, load


def ranking(study: Study) -> list[str]:
    return [entry.arm.name for entry in study.verdict.standings if entry.rank is not None]


def judgement(study: Study, name: str) -> str:
    return next(entry.judgement for entry in study.verdict.standings if entry.arm.name == name)


def fill(add_run: RunWriter, arm: str, crashes: int, seeds: int, **what: object) -> None:
    for seed in range(1, seeds + 1):
        crashed = {"state": "collapsed", "ssim": 0.27} if seed <= crashes else {}
        spread = 1 + 0.001 * seed
        add_run(arm, seed, **{**what, **crashed, "loss": float(what.get("loss", 0.01)) * spread})  # type: ignore[arg-type]


def test_fix_by_the_criterion(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 5, 6)
    fill(add_run, "good", 0, 6, loss=0.0109)
    fill(add_run, "worse", 0, 6, loss=0.012)
    study = load([study_dir])
    assert ranking(study) == ["good", "control", "worse"]
    assert judgement(study, "good") == "fix"
    assert judgement(study, "worse") == "fewer crashes, loss 20 % worse"
    assert study.verdict.candidate is not None and study.verdict.candidate.name == "good"
    assert study.verdict.headline.startswith("Best arm: good. 0 of 6 runs crashed")
    assert not study.warnings
    p = 2 * evidence.fewer(0, 6, 5, 6)
    said = "\n".join(study.verdict.sentences)
    assert "83 percentage points fewer" in said
    assert (
        f"unlikely to be chance (Boschloo's exact test, one-sided p = {p:.2g} after Holm for 2 arms)" in said
    )
    assert "a run of good is the better one in 0 % of all pairs" in said


def test_too_few_seeds_are_said_to_be_too_few(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 1, 3)
    fill(add_run, "stable", 0, 3, loss=0.0105)
    study = load([study_dir])
    assert judgement(study, "stable") == "fewer crashes, too few seeds (3 of 5)"
    needed = evidence.seeds_to_tell_rates(0, 1 / 3)
    sentence = next(s for s in study.verdict.sentences if "may be chance (Boschloo" in s)
    assert f"about {needed} runs per arm show it, {needed - 3} more than now" in sentence
    assert study.verdict.headline.startswith("Best arm so far: stable.")


def test_a_control_that_never_crashed_leaves_nothing_to_fix(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 3)
    fill(add_run, "agc", 0, 3, loss=0.008)
    study = load([study_dir])
    assert ranking(study) == ["agc", "control"]
    said = "\n".join(study.verdict.sentences)
    assert "no arm can be a fix" in said
    assert "at most 63 % (one-sided, 95 %); 26 more runs without a crash would bound it at 10 %" in said


def test_unstable_arms_do_not_qualify(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 2)
    fill(add_run, "blurred", 0, 2, ssim=0.79, loss=0.005)
    fill(add_run, "fallen", 0, 2, losses=[0.1, 0.005, 0.1])
    study = load([study_dir])
    assert ranking(study)[0] == "control"
    assert "SSIM not above 0.8" in judgement(study, "blurred")
    assert "2 runs fell later" in judgement(study, "fallen")


def test_measured_runs_are_ranked_by_the_object_not_by_the_loss(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 3, ssim=None, held_out_error=0.3, loss=0.02)
    fill(add_run, "overfitted", 0, 3, ssim=None, held_out_error=0.45, loss=0.001)
    fill(add_run, "better", 0, 3, ssim=None, held_out_error=0.2, loss=0.05)
    study = load([study_dir])
    assert ranking(study) == ["better", "control", "overfitted"]
    assert "error 50 % worse" in judgement(study, "overfitted") and "worse" not in judgement(study, "better")
    assert [row["held-out error"][:3] for row in map(tables.columns, study.verdict.standings)] == [
        "0.2",
        "0.3",
        "0.4",
    ]
    fill(add_run, "without", 0, 3, ssim=None)
    assert ranking(load([study_dir]))[0] == "overfitted", "where one arm has none, the losses compare all"


def test_a_flat_reference_of_the_same_data_is_a_row_of_its_own(
    add_run: RunWriter, study_dir: Path, tmp_path: Path
) -> None:
    fill(add_run, "control", 0, 2, ssim=None, held_out_error=0.3)
    write_flat(tmp_path / "flat" / "here", 0.2)
    write_flat(tmp_path / "flat" / "elsewhere", 0.1, dataset_key="other")
    study = load([study_dir, tmp_path / "flat"])
    assert ranking(study) == ["control"] and study.name == "stage_a"
    last = tables.columns(study.verdict.standings[-1])
    assert (last["arm"], last["held-out error"], last[""]) == ("flat object", "0.2", "")
    assert (last["crashed (95 %)"], last["judgement"]) == ("–", "reference: no network")
    assert any("of other data, left out: elsewhere" in warning for warning in study.warnings)
    assert study.verdict.headline.startswith("First by held-out error: control. 0 of 2 runs crashed")
    assert "<td>flat object</td>" in page(study) and "2 runs" in page(study)
    assert [row["state"] for row in tables.of_runs(study)] == ["completed"] * 2 + ["reference"]


def test_a_study_is_named_by_what_holds_all_its_runs(add_run: RunWriter, study_dir: Path) -> None:
    runs = [add_run("a", 1), add_run("b", 1)]
    assert load(runs).name == load([study_dir.parent]).name == "stage_a"
    add_run("a", 2, study="told")
    assert load([study_dir]).name == "stage_a", "not all runs say so"
    assert load([study_dir / "a-seed2"]).name == "told"


@pytest.mark.parametrize(
    ("crashes", "control", "headline"),
    [
        (
            0,
            {"ssim": 0.5},
            "does not qualify: SSIM not above 0.8.",
        ),
        (2, {}, "does not qualify: no run succeeded."),
        (
            0,
            {"ssim": None},
            "No best arm: control, first in the ranking, does not qualify: no SSIM, as no",
        ),
        (0, {"state": "running"}, "No ranking: no arm can be compared with another."),
    ],
)
def test_no_candidate_when_none_qualifies(
    add_run: RunWriter, study_dir: Path, crashes: int, control: dict[str, object], headline: str
) -> None:
    fill(add_run, "control", crashes, 2, **control)
    verdict = load([study_dir]).verdict
    assert verdict.candidate is None and headline in verdict.headline


@pytest.mark.parametrize(
    ("other", "warning"),
    [
        (
            {"dataset_key": "aaaa"},
            "not ranked: agc: dataset d5789a9880b9 (1 run) and aaaa (1 run) instead of d5789a9880b9",
        ),
        (
            {"git_commit": "bbbb"},
            "Different code versions, not ranked: agc: code 5f809ddf (1 run) and bbbb (1 run)",
        ),
        ({"config": settings(seed=2, loss___target_="x.PoissonLoss")}, "Different losses, not ranked"),
        ({"state": "interrupted"}, "no result for seed 2 (interrupted)"),
    ],
)
def test_what_does_not_compare_is_not_ranked(
    add_run: RunWriter, study_dir: Path, other: dict[str, object], warning: str
) -> None:
    fill(add_run, "control", 0, 2)
    fill(add_run, "stable", 0, 2)
    if "config" in other:
        fill(add_run, "agc", 0, 2, **other)
    else:
        add_run("agc", 1)
        add_run("agc", 2, **other)
    study = load([study_dir])
    assert ranking(study) == ["control", "stable"]
    assert any(warning in line for line in study.warnings)


def test_another_commit_of_the_same_sources_is_ranked(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 2, code="c0de")
    fill(add_run, "agc", 0, 2, code="c0de", git_commit="bbbb")
    assert set(ranking(load([study_dir]))) == {"control", "agc"}
    fill(add_run, "stable", 0, 2, code="0ther")
    study = load([study_dir])
    assert set(ranking(study)) == {"control", "agc"}
    assert any(line.startswith("Different code versions") and "0ther" in line for line in study.warnings)


def test_anyway_ranks_but_never_other_data(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 2)
    add_run("short", 1)
    fill(add_run, "recoded", 0, 2, git_commit="bbbb")
    fill(add_run, "elsewhere", 0, 2, dataset_key="aaaa")
    study = load([study_dir], anyway=True)
    assert set(ranking(study)) == {"control", "short", "recoded"}
    text = "\n".join(study.warnings)
    assert "ranked anyway: short" in text and "ranked anyway: recoded" in text
    assert "not ranked: elsewhere" in text


def test_seeds_that_few_arms_have_are_not_missing_in_the_others(add_run: RunWriter, study_dir: Path) -> None:
    for arm in ("control", "stable", "agc"):
        fill(add_run, arm, 0, 2)
    add_run("default", 0)
    add_run("agc", 3)
    study = load([study_dir])
    assert set(ranking(study)) == {"control", "stable", "agc"}
    assert judgement(study, "default") == "not ranked: no result for seed 1 (no run) and 2 (no run)"


def test_an_uncomparable_control_gives_no_verdict(add_run: RunWriter, study_dir: Path) -> None:
    add_run("control", 1)
    fill(add_run, "stable", 0, 2)
    study = load([study_dir])
    assert ranking(study) == ["stable"] and study.verdict.candidate is None
    assert any("Nothing is compared with the control" in sentence for sentence in study.verdict.sentences)


def test_uncommitted_code_unequal_budgets_and_repeats_are_said(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 1, git_commit="5f809ddf+")
    fill(add_run, "long", 0, 1, git_commit="5f809ddf+", config=settings(seed=1, trainer__max_epochs=50))
    add_run("long", 1, git_commit="5f809ddf+", directory="again", config=settings(trainer__max_epochs=50))
    text = "\n".join(load([study_dir]).warnings)
    assert "uncommitted changes" in text
    assert "Arms differ in trainer.max_epochs: 4 (1 arm) and 50 (1 arm)" in text
    assert "these do not count: long-seed1" in text


def test_longer_runs_and_losses_of_thinned_patterns_are_said(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 1)
    fill(add_run, "longer", 0, 1, epochs_before=[2])
    fill(add_run, "thin", 0, 1, config=settings(data__thinning=0.5))
    study = load([study_dir])
    text = "\n".join(study.warnings)
    assert "given more epochs later: longer-seed1;" in text
    assert "Different losses, not ranked: thin: MAELoss of thinned patterns (data.thinning=0.5)" in text
    assert sorted(ranking(study)) == ["control", "longer"]


def test_the_control_is_named_or_absent(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "cnn", 0, 2, loss=0.02)
    fill(add_run, "hybrid", 0, 2)
    study = load([study_dir])
    assert study.control is None and ranking(study) == ["hybrid", "cnn"]
    assert study.verdict.candidate is not None
    assert load([study_dir], "cnn").control is not None
    with pytest.raises(ConfigError, match=r"--control=hybird.*did you mean hybrid"):
        load([study_dir], "hybird")


def test_runs_of_several_devices_are_named(add_run: RunWriter, study_dir: Path) -> None:
    for seed, device in enumerate(("CPU, 1 thread", "CPU, 2 threads", "CPU, 1 thread")):
        add_run("control", seed, device=device)
    (warning,) = (line for line in load([study_dir]).warnings if "device" in line)
    assert "device: CPU, 1 thread (2 runs) and CPU, 2 threads (1 run)" in warning


def on_object(data_seed: int, **more: object) -> dict[str, object]:
    return {
        "config": settings(data__seed=data_seed),
        "dataset_key": f"key{data_seed}",
        "directory": f"{more.pop('arm')}-seed{more.pop('seed')}-data.seed={data_seed}",
        **more,
    }


@pytest.mark.parametrize(
    ("losses", "said"), [((0.02, 0.02), "changes nothing"), ((0.02, 0.005), "changes which")]
)
def test_runs_on_several_objects_are_one_arm(
    add_run: RunWriter, study_dir: Path, losses: tuple[float, float], said: str
) -> None:
    for data_seed, loss in enumerate(losses):
        for seed in (1, 2):
            add_run("control", seed, **on_object(data_seed, arm="control", seed=seed))
            add_run("other", seed, **on_object(data_seed, arm="other", seed=seed, loss=loss))
    study = load([study_dir])
    assert sorted(ranking(study)) == ["control", "other"] and not study.warnings
    assert all(len(arm.runs) == 4 for arm in study.arms)
    (sentence,) = (line for line in study.verdict.sentences if "data.seed" in line)
    assert said in sentence
    assert {row["data_seed"] for row in tables.of_runs(study)} == {0, 1}


def test_arms_on_other_objects_are_never_ranked_together(add_run: RunWriter, study_dir: Path) -> None:
    add_run("control", 1, **on_object(0, arm="control", seed=1))
    add_run("control", 1, **on_object(1, arm="control", seed=1))
    add_run("half", 1, **on_object(1, arm="half", seed=1))
    study = load([study_dir], anyway=True)
    assert ranking(study) == ["control"]
    assert any("half: dataset key1 instead of key0 and key1" in warning for warning in study.warnings)
    assert any("no result for seed 1 of data.seed 0 (no run)" in warning for warning in study.warnings)


def test_time_on_the_plateau_counts_the_runs_that_never_left(add_run: RunWriter, study_dir: Path) -> None:
    fill(add_run, "control", 0, 3)
    fill(add_run, "stuck", 2, 3, losses=[0.18, 0.18, 0.18, 0.1])
    for path in study_dir.glob("stuck-seed[12]"):
        history = path / "history.json"
        history.write_text(history.read_text().replace("0.1]", "0.18]"))
    study = load([study_dir])
    said = "\n".join(study.verdict.sentences)
    assert "left the flat plateau by epoch 2 with control, by no epoch with stuck" in said
    assert "Time on the plateau" in page(study)
