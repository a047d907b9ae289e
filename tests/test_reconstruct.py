"""The command as users type it: a trained network on its own data, on other data, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychofno import build, reconstruct
from ptychofno.command import line
from ptychofno.config.records import settings
from ptychofno.runs import artifacts, weights
from ptychofno.runs.naming import read
from ptychofno.runs.recorded import recomposed
from ptychofno.train import train

RUN = Path("outputs/run")
TINY = ["data=grid_lines_tiny", "model.hidden_channels=4", "model/inputs=backprojection"]
TINY.append("model.fno_blocks=2")

pytestmark = pytest.mark.usefixtures("_in_workplace")


@pytest.fixture(autouse=True)
def _trained(_in_workplace: None) -> None:
    """One run of two epochs in the directory that the tests of this module share."""
    if not RUN.exists():
        quick = ["trainer.max_epochs=2", "trainer.keep_every=1", "logger=none", f"run_dir={RUN}"]
        line.run(train, [*TINY, *quick, "seed=3"])


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exited:
        reconstruct.main(list(argv))
    lines = capsys.readouterr().err.splitlines()
    assert exited.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def written(name: str, run: Path = RUN) -> Path:
    return run / reconstruct.RECONSTRUCTIONS_DIR / name


def test_its_own_data_give_the_metrics_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    reconstruct.main([str(RUN)])
    there = written("own-data")
    assert artifacts.read_json(there / artifacts.METRICS) == artifacts.read_json(RUN / artifacts.METRICS)
    with np.load(there / artifacts.RECONSTRUCTION) as new, np.load(RUN / artifacts.RECONSTRUCTION) as old:
        assert all(np.array_equal(new[name], old[name]) for name in old)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("reconstructing with run (judged)")
    files = (artifacts.RECONSTRUCTION_FIGURE, artifacts.CURVES_FIGURE, artifacts.METRICS)
    assert said[-3:] == [str(there / name) for name in files]


def test_a_run_is_left_as_it_is(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(RUN, tmp_path / "copy"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    reconstruct.main([str(copy), "data.nphotons=1e5"])
    assert all(path.read_bytes() == content for path, content in before.items())


def test_another_dose_is_seen_in_its_own_units() -> None:
    """Amplitudes are 100 times smaller at 1e5 photons than at 1e9; the network is given them normalised."""
    reconstruct.main([str(RUN), "data.nphotons=1e5"])
    reconstruct.main([str(RUN)])
    low = artifacts.read_json(written("data.nphotons=100000") / artifacts.METRICS)
    high = artifacts.read_json(written("own-data") / artifacts.METRICS)
    assert low["diffraction_error"] > high["diffraction_error"]
    assert abs(low["ssim"][0] - high["ssim"][0]) < 0.1
    source = artifacts.read_json(written("data.nphotons=100000") / artifacts.SOURCE)
    assert source["trained_on"] != source["dataset_key"]


def test_the_probe_is_that_of_the_data() -> None:
    """An instrument of another probe: the back-projection must see that probe, not the trained one."""
    reconstruct.main([str(RUN), "probe.defocus_rad=0"])
    with np.load(written("probe.defocus_rad=0") / artifacts.RECONSTRUCTION) as own:
        seen = own["prediction"]
    given = torch.load(RUN / artifacts.MODEL, weights_only=True)["state_dict"]["inputs.probe"]
    assert np.isfinite(seen).all() and given.is_complex()
    reconstruct.main([str(RUN)])
    with np.load(written("own-data") / artifacts.RECONSTRUCTION) as own:
        assert not np.allclose(own["prediction"], seen)

    cfg = recomposed(read(RUN / artifacts.CONFIG), ["probe.defocus_rad=0", "data.nphotons=1e5"], RUN)
    dataset = build.dataset(settings(cfg))
    of_data, of_training = (
        weights.recorded_generator(
            build.to_plain(cfg.model), dataset, RUN / artifacts.MODEL, for_its_data=own
        ).state_dict()
        for own in (False, True)
    )
    for part in ("inputs", "output"):
        torch.testing.assert_close(of_data[f"{part}.probe"], torch.from_numpy(dataset.probe.copy()))
        assert torch.equal(of_training[f"{part}.probe"], given)
    assert float(of_data["inputs.rms_amplitude"]) == pytest.approx(dataset.rms_amplitude)
    assert not torch.equal(of_data["inputs.probe"], given)
    of_layers = set(of_data) - {"inputs.probe", "inputs.rms_amplitude", "output.probe"}
    assert all(torch.equal(of_data[name], of_training[name]) for name in of_layers)


def test_data_far_from_training_are_told() -> None:
    values = read(RUN / artifacts.CONFIG)
    own = build.dataset(settings(recomposed(values, [], RUN)))
    assert weights.differences(RUN / artifacts.MODEL, values, own) == []
    assert weights.share_outside(own, np.zeros((own.N, own.N))) == 1

    moved = replace(own, train=replace(own.train, amplitude=np.roll(own.train.amplitude, 8, axis=-1)))
    (line,) = weights.differences(RUN / artifacts.MODEL, values, moved)
    assert "% of the amplitude lies in pixels brighter than they ever were in training" in line
    dim = replace(own, photon_scale=own.photon_scale / 100, probe=np.roll(own.probe[::-1], 5) * 1j)
    said = weights.differences(RUN / artifacts.MODEL, values, dim)
    assert "the network has not seen such noise" in said[-2] and "0.0% of the amplitude lies" in said[-1]


def test_the_patch_can_be_taken_as_it_is_and_brought_nearer_to_the_pattern() -> None:
    """Also by a run that was trained without: what the rounds need is the data's, not the network's."""
    errors = []
    for setting in ("model/output=patch", "model.output.rounds=1", "model.output.rounds=16"):
        reconstruct.main([str(RUN), setting])
        metrics = artifacts.read_json(written(setting.replace("/", ".")) / artifacts.METRICS)
        errors.append(metrics["diffraction_error"])
    assert errors == sorted(errors, reverse=True)

    plain = Path("outputs/plain")
    quick = ["trainer.max_epochs=1", "logger=none", f"run_dir={plain}"]
    line.run(train, [*TINY, *quick, "model/output=patch"])
    reconstruct.main([str(plain)])
    reconstruct.main([str(plain), "model/output=projected"])
    as_it_is, projected = (
        artifacts.read_json(written(name, plain) / artifacts.METRICS)["diffraction_error"]
        for name in ("own-data", "model.output=projected")
    )
    assert projected < as_it_is


def test_a_checkpoint_has_a_directory_of_its_own(tmp_path: Path) -> None:
    reconstruct.main([str(RUN), "--checkpoint", "epoch=1"])
    reconstruct.main([str(RUN), "--checkpoint", "last", "--output", str(tmp_path / "there")])
    first = artifacts.read_json(written("own-data-epoch=1") / artifacts.METRICS)
    last = artifacts.read_json(tmp_path / "there" / artifacts.METRICS)
    assert first != last


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["outputs/nowhere"], "outputs/nowhere: no such arm, run directory or YAML file"),
        (["control"], "control: expected the directory of a run"),
        (["+arm=control"], "+arm=control: expected the directory of a run"),
        ([str(RUN), "other"], "other: expected SETTING=VALUE; one run at a time"),
        ([str(RUN), "model.modes=3"], "model.modes=3: nothing is trained here, only data, probe, model"),
        ([str(RUN), "data.nphotonz=1"], "data.nphotonz: no such setting; did you mean data.nphotons?"),
        ([str(RUN), "--checkpoint", "epoch=9"], "has no checkpoint epoch=9; expected one of epoch=0, judged"),
        ([str(RUN), "--checkpoint", "best,last"], "--checkpoint=best,last: expected one"),
        (
            [str(RUN), "data=grid_lines_tiny", "data.N=64"],
            "data: one sample is 1 x 64 x 64 (patterns x rows x columns); the network takes 1 x 32 x 32",
        ),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    assert said in refused(capsys, *argv)


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, str(RUN), "--output", str(tmp_path / "file/below"))


def test_a_run_without_a_model_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(RUN, tmp_path / "copy"))
    (copy / artifacts.MODEL).unlink()
    assert "has no checkpoint judged" in refused(capsys, str(copy))


def test_the_solver_alone_needs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    reconstruct.main(["flat", "data=grid_lines_tiny", "data.test_step_px=4", "refine.rounds=12"])
    there = Path("outputs/flat/data=grid_lines_tiny,data.test_step_px=4,refine.rounds=12")
    metrics = artifacts.read_json(there / artifacts.METRICS)
    assert metrics["ssim"][0] > 0.95 and metrics["diffraction_error"] is metrics["unrefined"] is None
    (error,) = artifacts.read_json(there / artifacts.ROUNDS)["error"]
    assert len(error) <= 13 and error[-1] < 0.2 * error[0]
    for name in (artifacts.RECONSTRUCTION_FIGURE, artifacts.CURVES_FIGURE, artifacts.RECONSTRUCTION):
        assert (there / name).is_file()
    assert "reconstructing from a flat object: " in capsys.readouterr().out
    source = artifacts.read_json(there / artifacts.SOURCE)
    assert source["run_dir"] is None and source["dataset_key_in_training"] == source["dataset_key"]


def test_rounds_of_overlap_are_told_beside_what_was_before(capsys: pytest.CaptureFixture[str]) -> None:
    reconstruct.main([str(RUN), "data.test_step_px=4", "refine.rounds=6"])
    metrics = artifacts.read_json(written("data.test_step_px=4,refine.rounds=6") / artifacts.METRICS)
    assert metrics["phase_mae_rad"] < 0.5 * metrics["unrefined"]["phase_mae_rad"]
    assert "before rounds of overlap: SSIM" in capsys.readouterr().out
    reconstruct.main([str(RUN), "data.test_step_px=4", "refine=none"])
    plain = artifacts.read_json(written("data.test_step_px=4,refine=none") / artifacts.METRICS)
    assert plain["unrefined"] is None
    # Without rounds the network sees every pattern, before them some.
    assert plain["ssim"][0] > metrics["unrefined"]["ssim"][0]
