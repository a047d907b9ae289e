"""Recorded settings, taken up again as data."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ptychofno.config.composition import compose
from ptychofno.config.errors import ConfigError
from ptychofno.config.records import resolved_yaml
from ptychofno.runs.naming import read
from ptychofno.runs.recorded import recomposed

PARTS = ("seed", "model", "optimizer", "clip", "loss", "data", "probe")


@cache
def recorded_yaml(*overrides: str) -> str:
    return resolved_yaml(compose(overrides))


def values(*overrides: str) -> dict[str, Any]:
    return dict(yaml.safe_load(recorded_yaml(*overrides)))


def again(recorded: dict[str, Any], *overrides: str) -> dict[str, Any]:
    return dict(yaml.safe_load(resolved_yaml(recomposed(recorded, overrides, "run/config.yaml"))))


@pytest.mark.parametrize(
    "overrides",
    [
        ["+arm=stable", "seed=5", "model.block.layerscale_init=0.2"],
        ["+arm=stable_zero_gamma", "optimizer=adamw", "loss=poisson"],
        ["model=cnn", "clip=agc", "data.gridsize=2", "probe=npz", "probe.path=p.npz"],
        ["data=measured", 'data.path=it\'s a "file".npz', "data/layout=ptychopinn", "optimizer=sgd"],
        ["model=fno", "model/inputs=amplitude", "clip=norm_tight", "data=grid_lines_tiny"],
    ],
)
def test_what_was_recorded_comes_back(overrides: list[str]) -> None:
    if "data=measured" in overrides:
        recorded = values(*[o for o in overrides if "data.path" not in o], "data.path=x")
        recorded["data"]["path"] = 'it\'s a "file".npz'
    else:
        recorded = values(*overrides)
    composed = again(recorded)
    assert {part: composed[part] for part in PARTS} == {part: recorded[part] for part in PARTS}


def test_settings_of_earlier_versions_are_left_out() -> None:
    recorded = values()
    earlier = {**recorded, "evaluation": {**recorded["evaluation"], "stitch": "overlap", "sync_rounds": 60}}
    assert again(earlier)["evaluation"] == recorded["evaluation"]


def test_typed_settings_win_over_recorded_ones() -> None:
    recorded = values("+arm=stable", "data.nphotons=1e5", "probe.defocus_rad=2")
    assert again(recorded, "data.nphotons=1e6")["data"]["nphotons"] == 1e6
    other = again(recorded, "data=grid_lines_tiny", "optimizer=sgd")
    assert other["data"]["name"] == "grid_lines_tiny" and other["data"]["nphotons"] == 1e9
    assert other["probe"]["defocus_rad"] == 5 and other["optimizer"]["momentum"] == 0.9
    measured = again(recorded, "data=measured", "data.path=x.npz")
    assert measured["probe"]["_target_"].endswith(".RefinedProbe") and measured["probe"]["rounds"] == 15


def test_a_part_that_is_typed_replaces_the_recorded_one_whole() -> None:
    recorded = values()
    assert "rounds" in recorded["model"]["output"]
    assert again(recorded, "model/output=patch")["model"]["output"] == {
        "_target_": "ptychofno.models.outputs.PatchOutput"
    }
    assert again(recorded, "model.output.rounds=9")["model"]["output"]["rounds"] == 9


def test_a_network_trained_on_counts_may_be_shown_amplitudes() -> None:
    shown = again(values("loss=poisson"), "data=measured", "data.path=x.npz", "data/layout=ptychopinn")
    assert shown["data"]["layout"]["quantity"] == "amplitude"


def test_where_data_are_cached_is_not_taken_from_a_record() -> None:
    recorded = values("data.cache_dir=/somewhere/else")
    assert again(recorded)["data"]["cache_dir"] == "outputs/datasets"


def test_a_record_of_an_earlier_version_has_todays_value() -> None:
    recorded = values("+arm=control")
    del recorded["optimizer"]["fused"], recorded["data"]["drop_last"]
    assert again(recorded)["data"]["drop_last"] is False


@pytest.mark.parametrize("part", ["inputs", "block"])
def test_a_part_that_is_missing_is_named(part: str) -> None:
    recorded = values("+arm=control")
    del recorded["model"][part]
    if part == "block":  # the class has one of its own
        assert "block" not in again(recorded)["model"] or again(recorded)["model"]["block"] is None
        return
    with pytest.raises(ConfigError, match=rf"model.{part}: needs a value"):
        again(recorded)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("data", {"size": "${oc.env:HOME}"}, "data.size=${oc.env:HOME}: is not resolved; type data.size="),
        ("data", {"size": "???"}, "data.size: needs a value"),
        ("data", {"sizes": 3}, "data.sizes: no such setting"),
        ("data", {"size": "large"}, "data.size=large: expected an integer"),
        ("data", {"size": 3}, "data.size=3: expected an integer >= 16"),
        ("data", {"name": "../../x"}, "data.name=../../x: expected the name of a directory"),
        (
            "data",
            {"_target_": "os.system"},
            "data (os.system): not one of ours: ptychofno.data.objects.GridLinesData",
        ),
        ("model", {"_target_": "os.system"}, "model (os.system): not one of ours"),
        (
            "model",
            {"block": {"_target_": "mine.Block"}},
            "model.block (mine.Block): not one",
        ),
        ("loss", {"_target_": "torch.nn.L1Loss"}, "loss (torch.nn.L1Loss): not one of ours"),
        ("optimizer", {"betas": [{"_target_": "os.system"}]}, "optimizer.betas"),
    ],
)
def test_a_record_is_checked(part: str, change: dict[str, Any], said: str) -> None:
    recorded = values("+arm=control")
    recorded[part] |= change
    with pytest.raises(ConfigError) as refused:
        recomposed(recorded, [], "run/config.yaml")
    assert str(refused.value).removeprefix("run/config.yaml: ").startswith(said)


@pytest.mark.parametrize("part", [None, 3, ["a"]])
def test_a_part_that_is_none(part: Any) -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml: probe: expected settings"):
        recomposed({**values(), "probe": part}, [], "f.yaml")


def test_a_mistake_on_the_command_line_is_told_as_ever() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lrr: no such setting; did you mean optimizer\.lr\?"):
        recomposed(values(), ["optimizer.lrr=1"], "f.yaml")
    with pytest.raises(ConfigError, match=r"^data.size=3: expected an integer >= 16"):
        recomposed(values(), ["data.size=3"], "f.yaml")


def test_reading_builds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"a: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
    with pytest.raises(ConfigError, match="not readable as settings"):
        read(file)
    assert not (tmp_path / "made").exists()
