"""The command as users type it: runs, checkpoints, untrained networks, refusals, what it writes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread

import quick_runs
from ptychofno import activations, build
from ptychofno.command import line
from ptychofno.config.composition import compose
from ptychofno.config.errors import ConfigError
from ptychofno.config.records import settings
from ptychofno.runs import artifacts
from ptychofno.runs.weights import load_model
from ptychofno.train import setup, train
from ptychofno.training.numerics import reproducible

RUN = Path("outputs/run")
TINY = ["data=grid_lines_tiny", "model.hidden_channels=4"]

pytestmark = pytest.mark.usefixtures("_in_workplace")


@pytest.fixture(autouse=True)
def _trained(_in_workplace: None) -> None:
    """One run of three epochs in the directory that the tests of this module share."""
    if not RUN.exists():
        quick = ["trainer.max_epochs=3", "trainer.keep_every=2", "logger=none", "refine=none"]
        quick.append(f"run_dir={RUN}")
        line.run(train, ["+arm=stable", *TINY, *quick, "seed=3"])


def inspected(*argv: str, directory: Path = RUN) -> list[dict[str, Any]]:
    activations.main(list(argv))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (directory / activations.OUTPUT).read_text()
    return list(json.loads(text, parse_constant=refuse)["networks"])


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exited:
        activations.main(list(argv))
    lines = capsys.readouterr().err.splitlines()
    assert exited.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "copy"))


@pytest.mark.draws
def test_the_judged_network(capsys: pytest.CaptureFixture[str]) -> None:
    (network,) = inspected(str(RUN), "--patterns", "10")
    assert network["weights"] == str(RUN / artifacts.MODEL) and network["patterns"] == 10
    assert network["dataset_key"] == artifacts.read_json(RUN / artifacts.RUN)["dataset_key"]
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [str(RUN / "activations.json"), str(RUN / "activations.png")]
    stages = [layer["name"] for layer in network["layers"] if layer["stage"]]
    rows = [line.split()[0] for line in said[2:-3]]
    assert rows == stages and {"lifter", "encoder.0", "bottleneck", "decoder.2", "head"} <= set(stages)
    assert imread(RUN / "activations.png").std() > 0.05
    weights = torch.load(RUN / artifacts.MODEL, weights_only=True)["state_dict"]
    for parameter in network["parameters"]:
        assert parameter["norm"] == pytest.approx(weights[parameter["name"]].norm().item(), rel=1e-5)
        assert parameter["grad_norm"] > 0


def test_the_loss_is_that_of_training() -> None:
    (network,) = inspected(str(RUN), "--checkpoint", "last", "--patterns", "81")
    weights = quick_runs.weights(RUN, "last")
    cfg = compose(["+arm=stable", *TINY])
    dataset = build.dataset(settings(cfg))
    generator = build.generator(cfg, dataset)
    generator.load_state_dict(weights)
    module = setup.experiment(cfg, dataset, generator)
    amplitude = torch.from_numpy(np.array(dataset.train.amplitude))
    with torch.no_grad():
        assert network["loss"] == pytest.approx(float(module.misfit(amplitude)), rel=1e-4)


def test_epochs_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    networks = inspected(str(RUN), "--checkpoint", "epoch=0,2,3,best", "--patterns", "4")
    names = [network["weights"] and Path(network["weights"]).name for network in networks]
    assert names == [None, "epoch-0002.pt", "model.pt", "model.pt"]
    assert networks[0]["loss"] > networks[2]["loss"]
    assert "A  outputs/run (epoch 0)" in capsys.readouterr().out


def test_epoch_0_is_where_training_started() -> None:
    (start,) = inspected(str(RUN), "--checkpoint", "epoch=0", "--patterns", "2")
    cfg = compose(["+arm=stable", *TINY, "seed=3"])
    with reproducible(3, None):
        first = build.generator(cfg, build.dataset(settings(cfg)))
    for parameter in start["parameters"]:
        assert parameter["norm"] == pytest.approx(
            first.get_parameter(parameter["name"]).norm().item(), rel=1e-6
        )
    gains = {gain["kind"]: gain["max"] for gain in start["gains"]}
    assert gains == {"layerscale": pytest.approx(1e-3), "norm": 1.0}


def test_a_configuration_in_a_file_is_an_untrained_network() -> None:
    (start,) = inspected(str(RUN), "--checkpoint", "epoch=0", "--patterns", "2")
    file = str(RUN / artifacts.CONFIG)
    (same,) = inspected(file, "--patterns", "2", directory=activations.UNTRAINED_DIR)
    assert same["layers"] == start["layers"]
    (other,) = inspected(file, "model.fno_blocks=2", "--patterns", "2", directory=activations.UNTRAINED_DIR)
    assert len(other["layers"]) < len(start["layers"])


def test_keeping_weights_of_epochs() -> None:
    names = sorted(path.name for path in (RUN / artifacts.CHECKPOINTS_DIR).iterdir())
    assert names == ["epoch-0002.pt", "resume.ckpt"]
    kept = torch.load(RUN / artifacts.epoch_weights(2), weights_only=True)
    last = quick_runs.weights(RUN, "last")
    assert kept.keys() == last.keys() and not torch.equal(kept["head.weight"], last["head.weight"])
    with pytest.raises(ConfigError, match=r"trainer\.keep_every=1: needs enable_checkpointing=true"):
        compose(["trainer.keep_every=1", "enable_checkpointing=false"])


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("hybrid", "amplitude"),
        ("stable_hybrid", "backprojection"),
        ("fno", "amplitude"),
        ("cnn", "backprojection"),
    ],
)
def test_every_model_runs_untrained(model: str, inputs: str) -> None:
    choice = [f"model={model}", f"model/inputs={inputs}", *TINY, "data.gridsize=2"]
    (network,) = inspected(*choice, "--patterns", "3", directory=activations.UNTRAINED_DIR)
    assert network["weights"] is None and all(p["grad_norm"] > 0 for p in network["parameters"])
    blocks = [layer for layer in network["layers"] if layer["update_to_input"] is not None]
    assert blocks and all(layer["gelu_zero_fraction"] is not None for layer in blocks)
    branched = [layer["name"] for layer in network["layers"] if layer["spectral_to_local"] is not None]
    assert branched == ([] if model == "cnn" else [layer["name"] for layer in blocks])
    assert all(1 <= layer["effective_rank"] <= layer["shape"][0] + 1e-6 for layer in network["layers"])


def test_settings_of_an_untrained_network_take_effect() -> None:
    (network,) = inspected(
        "+arm=stable",
        "model.block.layerscale_init=0.1",
        *TINY,
        "--patterns",
        "2",
        directory=activations.UNTRAINED_DIR,
    )
    (block,) = [layer for layer in network["layers"] if layer["name"] == "encoder.0"]
    assert block["layerscale"] == pytest.approx(0.1)
    # The update of an instance norm of weight 1 is 0.1 in root mean square.
    (before,) = [layer for layer in network["layers"] if layer["name"] == "lifter"]
    rms = (before["std"] ** 2 + before["mean"] ** 2) ** 0.5
    assert block["update_to_input"] == pytest.approx(0.1 / rms, rel=0.01)


def test_runs_beside_untrained_networks_and_a_typed_dataset() -> None:
    networks = inspected(
        str(RUN), "control", "+arm=stable seed=9", *TINY[:1], "data.nphotons=1e4", "--patterns", "2"
    )
    gains = [any(layer.get("layerscale") is not None for layer in network["layers"]) for network in networks]
    assert gains == [True, False, True]
    assert len({network["dataset_key"] for network in networks}) == 1
    assert networks[0]["dataset_key"] != artifacts.read_json(RUN / artifacts.RUN)["dataset_key"]


def test_the_same_command_gives_the_same_numbers() -> None:
    command = (str(RUN), "--patterns", "6")
    assert inspected(*command) == inspected(*command)


def test_where_it_writes(tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in RUN.rglob("*") if "activations" not in path.name}
    activations.main(
        [str(RUN), "--patterns", "2", "--output", str(tmp_path / "new"), "--output-name", "compare"]
    )
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["compare.json", "compare.png"]
    assert before == {
        path: path.stat().st_mtime_ns for path in RUN.rglob("*") if "activations" not in path.name
    }


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["outputs/rnu"], "outputs/rnu: no such arm, run directory or YAML file"),
        (["contrl"], "contrl: no such arm, run directory or YAML file; did you mean control?"),
        (["outputs/x/lr=2"], "outputs/x/lr=2: no such arm, run directory or YAML file"),
        (["outputs"], "outputs: not a run directory, it has no config.yaml"),
        ([str(RUN), "--checkpoint", "bset"], "--checkpoint=bset: expected one of best, last"),
        (
            [str(RUN), "--checkpoint", "epoch=1"],
            "outputs/run: has no checkpoint epoch=1; expected one of epoch=0, judged, best, last, epoch=2",
        ),
        (["control", "--checkpoint", "best"], "--checkpoint=best: is for run directories, and none is named"),
        ([str(RUN), "model.modes=3"], "model.modes=3: the network of outputs/run is trained"),
        (
            ["+arm=stable", "model.block.layerscale_int=1"],
            "model.block.layerscale_int: no such setting; did you",
        ),
        ([str(RUN), "--patterns", "0"], "--patterns=0: expected an integer >= 1"),
        ([str(RUN), "--output-name", "run.json"], "--output-name=run.json: a run has a file of that name"),
        ([str(RUN), "--output-name", "curves"], "--output-name=curves.json: a run has a file of that name"),
        ([str(RUN), "--output-name", "../x"], "--output-name=../x.json: expected a file name"),
    ],
)
def test_a_mistake_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *argv).startswith(said)


def test_more_patterns_than_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        refused(capsys, str(RUN), "--patterns", "82") == "--patterns=82: the dataset has 81 training patterns"
    )


def test_weights_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path)
    weights = torch.load(run / artifacts.epoch_weights(2), weights_only=True)
    weights["encoder.0.extra"] = weights.pop("encoder.0.layerscale")
    weights["head.bias"] = torch.zeros(7)
    torch.save(weights, run / artifacts.epoch_weights(2))
    assert refused(capsys, str(run), "--checkpoint", "epoch=2") == (
        f"{run / artifacts.epoch_weights(2)}: not a usable model: weights missing encoder.0.layerscale;"
        " unexpected encoder.0.extra; of another shape head.bias [7] instead of [2]"
    )
    bundle = torch.load(run / artifacts.MODEL, weights_only=True)
    del bundle["state_dict"]["head.weight"]
    torch.save(bundle, run / artifacts.MODEL)
    assert refused(capsys, str(run)).endswith("not a usable model: weights missing head.weight")
    with pytest.raises(ConfigError, match=r"weights missing head\.weight"):
        load_model(run / artifacts.MODEL)


def test_a_file_that_holds_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path)
    for content in ([1, 2], {"a": 3}, {"state_dict": {"a": "b"}}):
        torch.save(content, run / artifacts.MODEL)
        assert "not a usable model: expected weights by name" in refused(capsys, str(run))


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made",)


def test_a_run_directory_is_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path)
    (run / artifacts.MODEL).write_bytes(pickle.dumps(Evil()))
    assert "not a file of weights" in refused(capsys, str(run))
    torch.save({"state_dict": Evil()}, run / artifacts.MODEL)
    assert "not a file of weights" in refused(capsys, str(run))
    config = run / artifacts.CONFIG
    recorded = yaml.safe_load(config.read_text())
    for part, change in (
        ("model", {"_target_": "os.mkdir", "path": "made"}),
        ("loss", {"_target_": "os.mkdir", "path": "made"}),
        ("data", {"cache_dir": "${oc.env:HOME}", "name": "${oc.env:HOME}"}),
        ("optimizer", {"lr": {"_target_": "os.mkdir", "path": "made"}}),
    ):
        config.write_text(yaml.safe_dump({**recorded, part: {**recorded[part], **change}}))
        assert refused(capsys, str(run), "--checkpoint", "best").startswith(f"{config}: {part}")
    config.write_text("a: !!python/object/apply:os.mkdir [made]\n")
    assert "not readable as settings" in refused(capsys, str(run))
    assert not Path("made").exists()


def test_a_cache_named_by_a_run_is_not_written(tmp_path: Path) -> None:
    run, elsewhere = copied(tmp_path), tmp_path / "elsewhere"
    recorded = yaml.safe_load((run / artifacts.CONFIG).read_text())
    recorded["data"]["cache_dir"] = str(elsewhere)
    (run / artifacts.CONFIG).write_text(yaml.safe_dump(recorded))
    inspected(str(run), "--patterns", "2", directory=run)
    assert not elsewhere.exists()
    shutil.copytree("outputs/datasets", elsewhere)
    os.chdir(tmp_path)
    inspected(str(run), "--patterns", "2", directory=run)
    assert not Path("outputs").exists()


def test_data_that_are_no_longer_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path)
    record = artifacts.read_json(run / artifacts.RUN)
    artifacts.write_json(run / artifacts.RUN, {**record, "dataset_key": "0123456789ab"})
    assert "was trained on dataset 0123456789ab, its settings now give" in refused(capsys, str(run))
    inspected(str(run), "data=grid_lines_tiny", "--patterns", "2", directory=run)


def test_a_run_that_is_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path)
    (run / artifacts.MODEL).unlink()
    (run / artifacts.RUN).write_text("{")
    assert "has no checkpoint judged; expected one of epoch=0, epoch=2" in refused(capsys, str(run))
    assert inspected(str(run), "--checkpoint", "epoch=2", "--patterns", "2", directory=run)


def test_a_network_that_diverged_has_no_values_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path)
    weights = torch.load(run / artifacts.epoch_weights(2), weights_only=True)
    weights["lifter.second.bias"][0] = float("nan")
    torch.save(weights, run / artifacts.epoch_weights(2))
    (network,) = inspected(str(run), "--checkpoint", "epoch=2", "--patterns", "2", directory=run)
    (block,) = [layer for layer in network["layers"] if layer["name"] == "encoder.0"]
    assert network["loss"] is None and block["std"] is None and block["update_to_input"] is None


def test_names_are_shown_to_the_letter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(RUN, tmp_path / "[red]$x$ \033[2J"))
    inspected(str(run), "--patterns", "2", directory=run)
    said = capsys.readouterr().out.splitlines()[0]
    assert "[red]$x$ \\x1b[2J" in said
