"""What the YAML files compose to: the default recipe, the arms, the data presets, the user's last word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from ptychofno.config.composition import compose, composed
from ptychofno.config.declared import declared
from ptychofno.config.files import Files
from ptychofno.config.records import resolved_yaml, settings
from ptychofno.data.objects import SimulatedData
from ptychofno.data.probe import ApertureProbe, RefinedProbe

CONF = Path(str(files("ptychofno.conf")))

CONTROL = {"model": "HybridUNOGenerator", "block": "PtychoBlock", "optimizer": "adam"}
STABLE = CONTROL | {"model": "StableHybridUNOGenerator", "block": "StablePtychoBlock"}
NORM = {"clip": "NormClip", "clip.value": 1.0}
CONSTANT = {"scheduler": "constant", "clip": "NoClip"}
WARMUP = {
    "scheduler": "warmup_cosine",
    "scheduler.warmup_epochs": 5,
    "scheduler.min_ratio": 0.05,
    "clip": "NoClip",
}

# The published table of arms: a part is named by its class.
ARMS: dict[str, dict[str, Any]] = {
    "control": CONTROL | CONSTANT | NORM | {"optimizer.lr": 1e-3},
    "agc": CONTROL
    | CONSTANT
    | {"optimizer.lr": 1e-3, "clip": "AdaptiveClip", "clip.value": 0.01, "clip.eps": 1e-3},
    "stable_zero_gamma": STABLE | CONSTANT | {"model.block.layerscale_init": None, "optimizer.lr": 1e-3},
    "stable": STABLE | CONSTANT | {"optimizer.lr": 1e-3, "model.block.layerscale_init": 1e-3},
    "stable_warmup": STABLE | WARMUP | {"optimizer.lr": 5e-4},
    "stable_lowlr": STABLE | CONSTANT | {"optimizer.lr": 2.5e-4},
    "stable_warmup_lowlr": STABLE | WARMUP | {"optimizer.lr": 2.5e-4},
    "stable_warmup_clip": STABLE | WARMUP | NORM | {"optimizer.lr": 5e-4, "clip.value": 0.5},
    "stable_sgd": STABLE | WARMUP | {"optimizer": "sgd", "optimizer.lr": 3e-4, "optimizer.momentum": 0.9},
    "stable_adamw": STABLE
    | WARMUP
    | {"optimizer": "adamw", "optimizer.lr": 3e-4, "optimizer.weight_decay": 0.01},
    "deep_control": CONTROL
    | CONSTANT
    | NORM
    | {
        "optimizer.lr": 1e-3,
        "model.fno_blocks": 8,
        "model.max_hidden_channels": 512,
        "model.checkpoint_activations": True,
    },
    "deep6_control": CONTROL
    | CONSTANT
    | NORM
    | {"optimizer.lr": 1e-3, "model.fno_blocks": 6, "model.max_hidden_channels": 512},
    "plateau": CONTROL | CONSTANT | NORM | {"optimizer.lr": 1e-3, "scheduler": "plateau"},
}

SHARED = {
    "seed": 20260128,
    "model.hidden_channels": 32,
    "model.modes": 12,
    "model.inputs": "AmplitudeInput",
    "model.output": "PatchOutput",
    "loss": "MAELoss",
    "data.N": 64,
    "data.gridsize": 1,
    "data.batch_size": 16,
    "data.nphotons": 1e9,
    "data.set_phi": True,
    "trainer.max_epochs": 20,
}


def at(config: Any, key: str) -> Any:
    for name in ("model.block" if key == "block" else key).split("."):
        config = config[name]
    return str(config["_target_"]).rpartition(".")[2] if isinstance(config, dict) else config


def differences(overrides: list[str], expected: dict[str, Any]) -> dict[str, Any]:
    config = yaml.safe_load(resolved_yaml(compose(overrides)))
    return {key: at(config, key) for key in expected if at(config, key) != expected[key]}


def test_every_arm_of_the_table_has_a_file() -> None:
    assert {path.stem for path in (CONF / "arm").glob("*.yaml")} == {*ARMS, "recommended", "many_objects"}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_what_the_table_says(arm: str) -> None:
    depth = {"model.fno_blocks": 4, "model.max_hidden_channels": None, "model.checkpoint_activations": False}
    assert differences([f"+arm={arm}"], SHARED | depth | ARMS[arm]) == {}


def test_the_default_recipe() -> None:
    expected = {
        "model": "HybridUNOGenerator",
        "model.inputs": "BackprojectionInput",
        "model.output": "ProjectedOutput",
        "optimizer": "Muon",
        "scheduler": "warmup_cosine_steps",
        "data.name": "grid_lines_small",
        "run_dir": "outputs/default/default-seed0",
    }
    assert differences([], expected) == {}


def test_the_recommended_arm_is_a_network_trained_for_long_and_judged_by_itself() -> None:
    by_name = compose(["+arm=recommended", "run_dir=here"])
    typed = ["model=hybrid_narrow", "scheduler=warmup_cosine_short", "trainer.max_epochs=20", "refine=none"]
    assert by_name == compose(["run_dir=here", *typed])


def patterns(data: SimulatedData, step_px: int) -> int:
    return ((data.size - data.N) // step_px + 1) ** 2


def test_grid_lines_is_the_published_benchmark() -> None:
    data = settings(compose(["data=grid_lines"])).data
    assert patterns(data, data.train_step_px) == 83**2
    assert patterns(data, data.test_step_px) == 33**2


def test_presets_differ_only_where_they_say() -> None:
    full, small, tiny = (
        settings(compose([f"data={name}"])).data
        for name in ("grid_lines", "grid_lines_small", "grid_lines_tiny")
    )

    def changed(data: Any) -> set[str]:
        return {f.name for f in fields(full) if getattr(full, f.name) != getattr(data, f.name)}

    assert changed(small) == {"name", "batch_size", "train_step_px"}
    assert patterns(small, small.train_step_px) == 676
    assert changed(tiny) == {"name", "N", "size", "nlines", *(f"{s}_step_px" for s in SPLITS)}
    assert patterns(tiny, tiny.train_step_px) < 100


@pytest.mark.parametrize("kind", ["natural_images", "random_fields"])
def test_other_objects_are_scanned_as_the_lines_are(kind: str) -> None:
    for size in ("", "_small"):
        lines, other = (settings(compose([f"data={name}{size}"])).data for name in ("grid_lines", kind))
        shared = {field.name for field in fields(SimulatedData)} - {"name"}
        assert {name for name in shared if getattr(lines, name) != getattr(other, name)} == set()
        assert (other.name, other.kind) == (f"{kind}{size}", kind)


SPLITS = ("train", "validation", "test")


def test_a_measured_scan_brings_its_probe_unless_told_otherwise() -> None:
    measured = ["data=measured", "data.path=scan.npz"]
    config = settings(compose(measured))
    assert isinstance(config.probe, RefinedProbe)
    assert config.data.layout.zero_frequency is None
    assert isinstance(settings(compose([*measured, "probe=aperture"])).probe, ApertureProbe)
    other = settings(compose([*measured, "data/layout=ptychopinn", "+arm=control"]))
    assert other.data.layout.patterns_keys == ["diff3d", "diffraction"]
    assert isinstance(other.probe, RefinedProbe)


def test_the_command_line_wins_over_an_arm() -> None:
    overrides = ["data=grid_lines_tiny", "model/inputs=backprojection", "optimizer=sgd", "clip=agc"]
    expected = {
        "data.N": 32,
        "model.inputs": "BackprojectionInput",
        "optimizer": "sgd",
        "optimizer.lr": 5e-4,
        "clip": "AdaptiveClip",
        "clip.value": 0.01,
        "scheduler": "exponential",
        "loss": "PoissonLoss",
    }
    typed = ["+arm=stable_warmup_clip", *overrides, "scheduler=exponential", "loss=poisson"]
    assert differences(typed, expected) == {}
    assert differences(["model=cnn", "+arm=stable"], {"model": "CNNGenerator"}) == {}


def turns(sources: Files) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Choices of all groups, and how they are typed: as many as the largest group has."""
    choices = {group: sources.choices(group) for group in sources.groups if "/" not in group}
    choices = {group: names for group, names in choices.items() if group not in ("arm", "study")}
    measured = {"dataset", "refined"}  # probes that come with a measured scan only
    rows = [
        {group: names[i % len(names)] for group, names in choices.items()}
        for i in range(max(map(len, choices.values())))
    ]
    rows = [row | ({"probe": "aperture"} if row["probe"] in measured else {}) for row in rows]
    for picked in [*rows, *({**rows[0], "data": "measured", "probe": probe} for probe in measured)]:
        paths = [f"{group}.path=x.npz" for group, name in picked.items() if name in ("measured", "npz")]
        yield picked, [*(f"{group}={name}" for group, name in picked.items()), *paths]


def test_every_choice_of_every_group_composes() -> None:
    sources = Files()
    for _, overrides in turns(sources):
        compose(overrides)
    for i in range(3):
        parts = [(g, sources.choices(g)) for g in ("model/block", "model/inputs", "model/output")]
        compose([f"{group}={names[i % len(names)]}" for group, names in parts])


def parts_of(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from parts_of(value, f"{key}.{name}" if key else name)


def test_every_shipped_file_states_every_setting_of_its_part() -> None:
    """So that all of them can be typed without a plus; and each says what it is."""
    sources, seen = Files(), set()
    for picked, overrides in turns(sources):
        cfg = composed(sources, overrides)
        for group in picked.keys() - {"logger"}:
            for key, node in parts_of(OmegaConf.to_container(cfg[group], resolve=False), group):
                known = declared(node["_target_"])
                if known is None or not node["_target_"].startswith("ptychofno."):
                    continue
                seen.add((group, picked[group], key))
                documented = {name for name, setting in known.items() if setting.doc}
                assert documented == {name for name in node if name not in ("_target_", "interval")}, key
    assert len(seen) > 25


def test_composing_leaves_no_state_behind() -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    compose(["+arm=control"])
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()
