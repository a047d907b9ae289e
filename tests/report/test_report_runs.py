"""What a run directory tells, and how runs become arms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from run_directories import RunWriter, settings, write_flat, write_run

from ptychofno.report.arms import Arm, group
from ptychofno.report.files import find
from ptychofno.report.runs import MEASURES, read, read_reference
from ptychofno.runs import artifacts


def arms_of(path: Path) -> dict[str, Arm]:
    return {arm.name: arm for arm in group([read(run) for run in find([path]).runs])}


def test_numbers_of_a_run(add_run: RunWriter) -> None:
    run = read(
        add_run("stable", 3, losses=[0.17, 0.12, 0.02, 0.03], ssim=0.9, similarity=[0.3, 0.7, 0.8, 0.85])
    )
    assert (run.arm, run.seed, run.state, run.problems) == ("stable", 3, "completed", ())
    assert run.measures["best_val_loss"] == 0.02
    assert run.measures["left_plateau"] == 2, "the first below 0.8 of the flat object's"
    assert run.measures["steps_to_ssim"] == 12, "the end of the first epoch of 0.8 or more"
    assert run.measures["training_seconds"] == pytest.approx(6.0)
    assert (run.measures["mae_amplitude"], run.measures["mae_phase"]) == (0.1, 0.2)
    assert [run.measures[f"grad_norm_{kind}"] for kind in ("median", "p99", "max")] == [4.5, 8, 8]
    assert set(run.measures) == {measure.key for measure in MEASURES}


@pytest.mark.parametrize(("end", "fell"), [(0.02, False), (0.05, False), (0.07, True)])
def test_a_run_fell_when_it_lost_a_quarter_of_its_gain(add_run: RunWriter, end: float, fell: bool) -> None:
    """Gain 0.18 − 0.02 = 0.16; a quarter of it above the best is 0.06."""
    assert read(add_run("a", 1, losses=[0.1, 0.02, end])).fell_later is fell


@pytest.mark.parametrize("state", artifacts.STATES)
def test_only_three_states_are_results(add_run: RunWriter, study_dir: Path, state: str) -> None:
    add_run("a", 1, state=state)
    arm = arms_of(study_dir)["a"]
    assert arm.states == {state: 1}
    assert len(arm.results) == (state in ("completed", "collapsed", "diverged"))
    assert arm.crashed == (state in ("collapsed", "diverged"))


def test_medians_are_of_successful_runs_only(add_run: RunWriter, study_dir: Path) -> None:
    for seed, loss in enumerate((0.010, 0.011, 0.013, 0.019), start=1):
        add_run("a", seed, loss=loss)
    add_run("a", 5, state="collapsed", ssim=0.27)
    add_run("a", 6, state="diverged", ssim=0.6)
    arm = arms_of(study_dir)["a"]
    loss = arm.summary("best_val_loss")
    assert (loss.low, loss.median, loss.high) == pytest.approx((0.01075, 0.012, 0.0145))
    assert arm.crash_rate == pytest.approx(2 / 6)
    assert arm.flat_by_ssim == 1
    assert arm.summary("grad_norm_max").median == 8
    assert [run.seed for run in arm.typical()][:2] == [2, 1], "from the lower median outwards"


def test_a_phase_similarity_within_2_pi_is_not_taken_for_one_within_the_targets_range(
    add_run: RunWriter,
) -> None:
    path = add_run("a", 1, ssim=0.9)
    assert read(path).measures["ssim_phase"] == 0.9
    (path / "metrics.json").write_text('{"ssim": [0.9, 0.998]}')
    measures = read(path).measures
    assert measures["ssim_amplitude"] == 0.9 and math.isnan(measures["ssim_phase"])


def test_an_arm_without_results_has_no_numbers(add_run: RunWriter, study_dir: Path) -> None:
    add_run("a", 1, state="failed", losses=[])
    arm = arms_of(study_dir)["a"]
    assert math.isnan(arm.crash_rate) and math.isnan(arm.summary("ssim_phase").median)
    assert arm.crash_interval == (0.0, 1.0)


def test_where_the_arm_s_name_comes_from(add_run: RunWriter) -> None:
    record = add_run("x", 1, directory="one", overrides=["+arm=typed"])
    (record / "run.json").write_text('{"arm": "recorded"}')
    typed = add_run("x", 1, directory="other-seed1", overrides=["+arm=typed", "seed=1"])
    named = add_run("x", 1, directory="cnn-seed1-data=tiny", overrides=["model=cnn", "seed=1"])
    assert [read(path).arm for path in (record, typed, named)] == ["recorded", "typed", "cnn"]


def test_one_name_and_two_configurations_are_two_arms(add_run: RunWriter, study_dir: Path) -> None:
    for depth in (4, 6):
        for seed in (1, 2):
            add_run(
                "control",
                seed,
                directory=f"control-seed{seed}-{depth}",
                config=settings(seed=seed, model__fno_blocks=depth),
                overrides=["+arm=control", f"seed={seed}", "data=tiny", f"model.fno_blocks={depth}"],
            )
    assert list(arms_of(study_dir)) == ["control model.fno_blocks=4", "control model.fno_blocks=6"]


def test_what_was_not_typed_is_told_apart_by_settings(add_run: RunWriter, study_dir: Path) -> None:
    """The arm's file was changed between two runs."""
    add_run("stable", 1)
    add_run("stable", 2, config=settings(seed=2, optimizer__lr=0.002))
    assert list(arms_of(study_dir)) == ["stable optimizer.lr=0.001", "stable optimizer.lr=0.002"]


def test_seed_and_place_make_no_difference(add_run: RunWriter, study_dir: Path) -> None:
    add_run("a", 1, config=settings(seed=1, run_dir="here", trainer__accelerator="cpu"))
    add_run("a", 2, config=settings(seed=2, run_dir="there", trainer__accelerator="cuda"))
    assert len(arms_of(study_dir)["a"].runs) == 2


def test_a_seed_counts_once(add_run: RunWriter, study_dir: Path) -> None:
    add_run("a", 1, state="interrupted", directory="a-seed1")
    add_run("a", 1, directory="a-seed1-again")
    add_run("a", 1, directory="a-seed1-yet-again")
    arm = arms_of(study_dir)["a"]
    assert [run.name for run in arm.runs] == ["a-seed1-again"]
    assert [run.name for run in arm.repeated] == ["a-seed1-yet-again", "a-seed1"]


def test_what_is_no_run_is_not_found(add_run: RunWriter, study_dir: Path, tmp_path: Path) -> None:
    kept = add_run("a", 1)
    add_run("a", 1, directory="a-seed1-previous-1")
    (study_dir / "notes").mkdir()
    add_run("a", 1, directory=".submitit")
    elsewhere = tmp_path / "elsewhere"
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)
    second = add_run("b", 1)
    found, _, remarks = find([study_dir])
    assert found == [second]
    assert any("set aside" in remark for remark in remarks) and any("a-seed1" in remark for remark in remarks)
    assert find([elsewhere]).runs == [elsewhere], "named by the user, a run directory is one"


def test_runs_are_found_at_any_depth_and_not_inside_one_another(
    add_run: RunWriter, study_dir: Path, tmp_path: Path
) -> None:
    first, second = add_run("a", 1), add_run("b/deeper", 1)
    write_run(first / "reconstructions", "inside", 1)
    made = write_flat(tmp_path / "flat" / "data=measured", 0.2)
    deep = write_run(tmp_path / "/".join("123456789"), "deep", 1)
    found = find([tmp_path])
    assert (found.runs, found.reconstructions) == ([deep, first, second], [made])
    assert find([tmp_path, study_dir, first]).runs == [deep, first, second]


def test_only_a_reconstruction_without_a_network_is_a_reference(tmp_path: Path) -> None:
    reference = read_reference(write_flat(tmp_path / "flat", 0.2))
    assert reference is not None and reference.measures["diffraction_error_stitched"] == 0.2
    assert (reference.arm, reference.dataset_key) == ("flat object", "d5789a9880b9")
    for number, source in enumerate(({"run_dir": "outputs/run"}, {"run_dir": 1})):
        assert read_reference(write_flat(tmp_path / str(number), 0.2, **source)) is None
    (tmp_path / "flat" / "source.json").write_text("{}")
    assert read_reference(tmp_path / "flat") is None


def test_curves_of_unequal_length_are_padded(add_run: RunWriter) -> None:
    path = add_run("a", 1)
    (path / "history.json").write_text('{"epoch": [1, 2, 3], "val_loss": [0.1, "x"], "seconds": null}')
    run = read(path)
    assert run.curves["val_loss"].size == 3 and np.isnan(run.curves["val_loss"][1:]).all()
    assert math.isnan(run.measures["training_seconds"])
