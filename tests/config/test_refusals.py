"""Whatever is wrong is told in one line: where, what, what is valid, and the nearest valid choice."""

from __future__ import annotations

import math
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptychofno.command.launch import launch
from ptychofno.config.composition import compose
from ptychofno.config.declared import Hint
from ptychofno.config.errors import ConfigError, nearest
from ptychofno.config.files import Files
from ptychofno.config.limits import Violation, converted, expectation
from ptychofno.config.records import settings
from ptychofno.runs.naming import Composed, subject


def refusal(*overrides: str, config_dir: Path | None = None) -> str:
    with pytest.raises(ConfigError) as refused:
        compose(overrides, config_dir=str(config_dir) if config_dir else None)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def any_of(group: str) -> str:
    return f"expected one of {', '.join(Files().choices(group))}"


LR = "expected a number > 0"
BETA = "expected a number >= 0 and < 1"

TYPED = {
    # misspelt settings
    "optimizer.lrr=1": "optimizer.lrr: no such setting; did you mean optimizer.lr?",
    "+optimizer.lrr=1": "optimizer.lrr: no such setting; did you mean optimizer.lr?",
    "optimiser.lr=1": "optimiser.lr: no such setting; did you mean optimizer.lr?",
    "max_epochs=3": "max_epochs: no such setting; did you mean trainer.max_epochs?",
    "optimizer.xyzzy=3": "optimizer.xyzzy: no such setting; optimizer has lr, betas, momentum, weight_decay",
    "scheduler.gamma=0.9": "scheduler.gamma: no such setting of the chosen scheduler; "
    "it belongs to scheduler=exponential",
    "model.block.layerscale_init=1": "model.block.layerscale_init: no such setting of the chosen "
    "model/block; it belongs to model/block=layerscale, zero_gamma",
    # wrong types
    "optimizer.lr=fast": f"optimizer.lr=fast: {LR}",
    "optimizer.betas=[0.9,x]": f"optimizer.betas[1]=x: {BETA}",
    "trainer.max_epochs=2.5": "trainer.max_epochs=2.5: expected an integer >= 1 and <= 1000000",
    "enable_checkpointing=maybe": "enable_checkpointing=maybe: expected true or false",
    # out of range
    "optimizer.lr=-1": f"optimizer.lr=-1: {LR}",
    "optimizer.lr=nan": "optimizer.lr=nan: expected a finite number > 0",
    "optimizer.betas=[0.9,1.5]": f"optimizer.betas[1]=1.5: {BETA}",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: expected a list of 2 numbers >= 0 and < 1",
    "run_dir=": "run_dir=: expected some text",
    "run_dir=$HOME/x": "run_dir=$HOME/x: expected a directory, without '$'",
    "data.name=../up": "data.name=../up: expected the name of a directory: letters, digits, '_', '.', '-', "
    "the first a letter, digit or '_'",
    "trainer.precision=16-mixed": "trainer.precision=16-mixed: expected one of 32-true, bf16-mixed; "
    "did you mean bf16-mixed?",
    f"seed={2**63}": f"seed={2**63}: expected an integer >= 0 and <= {2**63 - 1}",
    # groups and their choices
    "optimizer=adamm": f"optimizer=adamm: {any_of('optimizer')}; did you mean adam?",
    "model/block=layerscal": f"model/block=layerscal: {any_of('model/block')}; did you mean layerscale?",
    "model/blok=ptycho": "model/blok=ptycho: no such group; did you mean model/block=ptycho?",
    "arms=stable": "arms=stable: no such group; did you mean +arm=stable?",
    "model.block=5": "model.block=5: expected settings; a choice is written model/block=CHOICE",
    # plus, tilde, grammar
    "+optimizer.lr=1": "+optimizer.lr=1: optimizer.lr exists already; write optimizer.lr=1",
    "+optimizer=sgd": "+optimizer=sgd: optimizer has a choice already; write optimizer=sgd",
    "~optimizer": f"~optimizer: a group needs a choice; {any_of('optimizer')}",
    "~optimizer.lr": "~optimizer.lr: a setting cannot be removed; give optimizer.lr a value instead",
    "seed=1,2": "seed=1,2: several values need --multirun (-m); a list is written [a,b]",
    "seed": "seed: cannot be read; write key=value, and quote what has special characters",
    "data.path=a=b (c).npz": "data.path=a=b (c).npz: cannot be read; write 'data.path=\"a=b (c).npz\"'",
    # what is Hydra's
    "hydra.run.dir=x": "hydra.run.dir=x: has no effect; run_dir=… says where a run is written",
    "hydra.job.chdir=true": "hydra.job.chdir=true: a run stays where it is started; "
    "run_dir=… says where it is written",
    # missing, unresolvable, fixed
    "data=measured": "data.path: needs a value: file of the scan; any format that inspect knows",
    "optimizer.lr=${nope}": f"optimizer.lr=${{nope}}: {LR}, but Interpolation key 'nope' not found",
    "probe=dataset": "probe=dataset: only data=measured brings a probe; "
    "expected one of aperture, gaussian, npz",
    # classes of objects and probes
    "data.correlation_px=4": "data.correlation_px: no such setting of the chosen data; "
    "it belongs to data=random_fields",
}


@pytest.mark.parametrize("override", TYPED)
def test_typed_mistakes(override: str) -> None:
    assert refusal(override) == TYPED[override]


@pytest.mark.parametrize(
    ("choice", "override", "expected"),
    [
        ("data=random_fields", "data.correlation_px=0.5", "a number >= 1 and <= 4096"),
        ("data=natural_images", "data.min_amplitude=1", "a number >= 0 and < 1"),
        ("probe=gaussian", "probe.fwhm=0.5", "a number > 0 and <= 0.35"),
    ],
)
def test_values_of_object_classes_and_probes(choice: str, override: str, expected: str) -> None:
    assert refusal(choice, override) == f"{override}: expected {expected}"


def test_settings_of_one_object_class_are_not_those_of_another() -> None:
    assert refusal("data=natural_images", "data.set_phi=false") == (
        "data.set_phi: no such setting of the chosen data; it belongs to data=grid_lines"
    )
    misspelt = refusal("data=random_fields", "data.corelation_px=3")
    assert misspelt == "data.corelation_px: no such setting; did you mean data.correlation_px?"


def test_sizes_end_somewhere() -> None:
    most = {
        "trainer.num_threads": 1024,
        "trainer.max_epochs": 1_000_000,
        "data.size": 16384,
        "data.nlines": 1_000_000,
        "data.nimgs_train": 1000,
        "model.hidden_channels": 4096,
        "model.modes": 1024,
    }
    compose([f"{key}={value}" for key, value in most.items()])
    for key, value in most.items():
        assert f"and <= {value}" in refusal(f"{key}={value + 1}")


def test_only_paths_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run records its settings; whatever is secret must not be among them."""
    monkeypatch.setenv("SECRET", "hunter2")
    for setting in ("optimizer.lr", "data.name", "trainer.accelerator"):
        said = refusal(setting + "=${oc.env:SECRET}")
        assert said.startswith(setting + "=${oc.env:SECRET}: a run records its settings, so only paths")
    assert compose(["data.cache_dir=${oc.env:SECRET}/x"]).data.cache_dir == "hunter2/x"
    assert "'NOPE' not found" in refusal("data.cache_dir=${oc.env:NOPE}")


def test_mistakes_of_several_overrides() -> None:
    assert refusal("model=cnn", "model/block=ptycho") == "model/block: model=cnn has no model/block"
    assert refusal("+arm=agc", "+arm=control").endswith("several in turn by -m +arm=agc,control")
    unknown = refusal("+arm=stabel")
    assert unknown.startswith("arm=stabel: expected one of agc, control, ")
    assert unknown.endswith("; did you mean stable?")


def test_an_arm_needs_no_plus() -> None:
    assert compose(["arm=control"]) == compose(["+arm=control"])


def test_the_form_that_a_refusal_names_is_taken() -> None:
    advice = refusal("data=measured", "data.path=a=b (c).npz").partition("write ")[2]
    assert compose(["data=measured", *shlex.split(advice)]).data.path == "a=b (c).npz"


def test_home_is_where_a_tilde_stands() -> None:
    cfg = compose(["run_dir=~/x", "data=measured", "data.path=~/scan.npz"])
    assert [cfg.run_dir, cfg.data.path] == [str(Path.home() / name) for name in ("x", "scan.npz")]


@pytest.mark.parametrize("typed", ["+arm=mine/new", "+arm/mine=new", "arm/mine=new"])
def test_arms_may_stand_in_folders(typed: str, tmp_path: Path) -> None:
    (tmp_path / "arm/mine").mkdir(parents=True)
    (tmp_path / "arm/mine/new.yaml").write_text(f"{GLOBAL}optimizer: {{lr: 0.5}}")
    cfg = compose([typed], config_dir=str(tmp_path))
    assert cfg.optimizer.lr == 0.5 and cfg.run_dir == "outputs/mine-new/mine-new-seed0"


def test_a_link_that_leads_back_is_told(tmp_path: Path) -> None:
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm/loop").symlink_to(tmp_path)
    assert "does a link lead back?" in refusal("+arm=control", config_dir=tmp_path)


GLOBAL = "# @package _global_\n"
WITH_BASE = f"{GLOBAL}defaults: [control, _self_]\n"

FILES = {
    WITH_BASE + "optimizer: {lrr: 1}": "optimizer.lrr: no such setting; did you mean optimizer.lr?",
    WITH_BASE + "optimizer: {lr: fast}": f"optimizer.lr=fast: {LR}",
    WITH_BASE + "optimizer: {betas: [0.9, x]}": f"optimizer.betas[1]=x: {BETA}",
    WITH_BASE + "optimizer: sgd": "optimizer=sgd: expected settings; a choice is written optimizer=CHOICE",
    WITH_BASE + "clip: {eps: 1}": "clip.eps: no such setting of the chosen clip; it belongs to clip=agc",
    GLOBAL
    + "defaults: [control, override /optimizr: sgd]": "optimizr: no such group; did you mean optimizer?",
    GLOBAL + "defaults: [control, override /clip: nrom]": f"clip=nrom: {any_of('clip')}; did you mean norm?",
    GLOBAL + "defaults: [/optimizr: sgd]": "optimizr/sgd: no such group; did you mean optimizer?",
    "defaults: [control, _self_]\noptimizer: {lr: 1}": 'expected "# @package _global_" as its first line',
}


@pytest.mark.parametrize("content", FILES)
def test_mistakes_in_an_arm_file(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/arm").mkdir(parents=True)
    (tmp_path / "mine/arm/new.yaml").write_text(content)
    assert refusal("+arm=new", config_dir=tmp_path / "mine") == f"mine/arm/new.yaml: {FILES[content]}"


GROUP_FILES = {
    "trainer/long": (
        "num_treads: 2",
        "trainer.num_treads: no such setting; did you mean trainer.num_threads?",
    ),
    "trainer/other": (
        "num_threads: many",
        "trainer.num_threads=many: expected an integer >= 1 and <= 1024 or null",
    ),
    "clip/x": (
        "defaults: [norm, _self_]\nvaleu: 0.5",
        "clip.valeu: no such setting; did you mean clip.value?",
    ),
    "data/mine": (
        "defaults: [grid_lines, _self_]\nnlinse: 3",
        "data.nlinse: no such setting; did you mean data.nlines?",
    ),
    "data/other": (
        "defaults: [grid_lines, _self_]\nnlines: many",
        "data.nlines=many: expected an integer >= 1 and <= 1000000",
    ),
    "model/block/mine": (
        "defaults: [layerscale, _self_]\nlayerscale_int: 1",
        "model.block.layerscale_int: no such setting; did you mean model.block.layerscale_init?",
    ),
}


@pytest.mark.parametrize("config", GROUP_FILES)
def test_mistakes_in_a_group_file(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = GROUP_FILES[config]
    group, _, name = config.rpartition("/")
    file = Path("mine") / f"{config}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    told = f"{file}: {said}"
    assert refusal(f"{group}={name}", config_dir=Path("mine")) == told
    # Also when another file chooses it.
    (Path("mine") / "arm").mkdir()
    (Path("mine") / "arm/new.yaml").write_text(f"{GLOBAL}defaults: [stable, override /{group}: {name}]\n")
    assert refusal("+arm=new", config_dir=Path("mine")) == told


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "arm").mkdir()
    file = tmp_path / "arm/new.yaml"
    file.write_text(f"{GLOBAL}optimizer:\n  lr: [1\nseed: 3\n")
    assert refusal("+arm=new", config_dir=tmp_path).startswith(f"{file}, line 4: expected")
    file.write_text(f"{GLOBAL}optimizer:\n  lr: 1\n  lr: 2\n")
    assert refusal("+arm=new", config_dir=tmp_path) == f"{file}, line 4: found duplicate key lr"


def test_a_shipped_file_is_named_from_conf() -> None:
    said = refusal("+arm=deep_control", "model=cnn")
    assert said.startswith(
        "conf/arm/deep_control.yaml: model.fno_blocks: no such setting of the chosen model"
    )


def test_a_file_is_not_blamed_for_what_was_typed() -> None:
    assert refusal("+arm=control", "optimizer.lr=-2") == f"optimizer.lr=-2: {LR}"


def test_a_block_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a class that is found, the settings are those of its signature; else those of its file."""
    folder = tmp_path / "conf/model/block"
    folder.mkdir(parents=True)
    conf = tmp_path / "conf"
    (folder / "mine.yaml").write_text("_target_: nowhere.Block\nwindow: 3\n")
    cfg = compose(["model/block=mine", "model.block.window=5"], config_dir=str(conf))
    assert settings(cfg).model["block"] == {"_target_": "nowhere.Block", "window": 5}
    assert refusal("model/block=mine", "model.block.windw=5", config_dir=conf) == (
        "model.block.windw: no such setting; did you mean model.block.window?"
    )
    (folder / "mine.yaml").write_text("_target_: nowhere.Block\nwindow: ???\n")
    assert refusal("model/block=mine", config_dir=conf) == (
        f"{folder / 'mine.yaml'}: model.block.window: needs a value"
    )
    (folder / "mine.yaml").write_text("window: 3\n")
    assert refusal("model/block=mine", config_dir=conf).endswith(
        "model.block._target_: needs a value: the class, as package.module.Class"
    )

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_blocks.py").write_text(
        "from typing import Annotated\nfrom annotated_types import Gt\nfrom typing_extensions import Doc\n"
        "Width = Annotated[int, Gt(0), Doc('pixels')]\n"
        "class Block:\n    def __init__(self, channels, modes, window: Width = 3):\n"
        "        raise AssertionError('declarations are read, not run')\n"
    )
    (folder / "mine.yaml").write_text("_target_: own_blocks.Block\n")
    assert compose(["model/block=mine"], config_dir=str(conf)).model.block.window == 3
    told = refusal("model/block=mine", "+model.block.window=0", config_dir=conf)
    assert told == "model.block.window=0: expected an integer > 0"
    assert refusal("model/block=mine", "model.block.window=5", config_dir=conf) == (
        "model.block.window=5: its file does not set it; write +model.block.window=5"
    )
    added = refusal("model/block=mine", "+model.block.window=5", "optimizer.lrr=1", config_dir=conf)
    assert added.startswith("optimizer.lrr: no such setting")
    told = refusal("model/block=mine", "+model.block.windw=5", config_dir=conf)
    assert told == "model.block.windw: no such setting; did you mean model.block.window?"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(config_dir=tmp_path / "nowhere").endswith("nowhere: no such directory")


def test_a_file_with_a_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra takes the first of two files of one name: what the other says would be lost without a word."""
    monkeypatch.chdir(tmp_path)
    mine = Path("mine/arm/agc.yaml")
    mine.parent.mkdir(parents=True)
    mine.write_text(f"{GLOBAL}optimizer:\n  lr: 1e-5\n")
    told = "mine/arm/agc.yaml: would never be read, conf/arm/agc.yaml has the same name; give it another one"
    for arm in ("agc", "control"):
        with pytest.raises(ConfigError) as refused:
            launch(lambda cfg: None, [f"+arm={arm}", "--config-dir", "mine", "--cfg", "job"])
        assert str(refused.value) == told
    with pytest.raises(ConfigError, match=r"mine/arm/agc.yaml: would never be read"):
        subject("mine/arm/agc.yaml")
    copied = Path(str(files("ptychofno.conf"))) / "arm/agc.yaml"
    mine.write_text(copied.read_text())
    assert subject("mine/arm/agc.yaml") == Composed(["+arm=agc"], str(Path("mine").resolve()))
    assert compose(["+arm=agc"], config_dir="mine").optimizer.lr == compose(["+arm=agc"]).optimizer.lr


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(value=numbers, low=st.floats(-10, 10), high=st.floats(-10, 10))
def test_limits_are_what_they_say(value: float, low: float, high: float) -> None:
    finite = math.isfinite(value)
    for limits, inside in (
        ({"gt": low}, value > low),
        ({"ge": low}, value >= low),
        ({"lt": high}, value < high),
        ({"le": high}, value <= high),
        ({"ge": low, "lt": high}, low <= value < high),
    ):
        hint = Hint(float, limits=limits)
        assert (not isinstance(converted(value, hint), Violation)) == (finite and inside)
        listed = converted([value], Hint(list, element=hint))
        assert (not isinstance(listed, Violation)) == (finite and inside)


def test_values_take_the_declared_type() -> None:
    assert type(converted(1, Hint(float))) is float and converted(5, Hint(str)) == "5"
    assert converted(None, Hint(int, optional=True)) is None
    for value, kind in ((True, int), (1, bool), (64.0, int), ("1", float), (None, int)):
        assert isinstance(converted(value, Hint(kind)), Violation)


def test_expectations_read_as_sentences() -> None:
    assert expectation(Hint(int, True, {"ge": 1})) == "expected an integer >= 1 or null"
    texts = Hint(str)
    assert (
        expectation(Hint(list, limits={"length": (1,)}, element=texts))
        == "expected a list of 1 or more texts"
    )
    assert (
        expectation(Hint(list, limits={"length": (1, 2)}, element=texts)) == "expected a list of 1 to 2 texts"
    )


@given(st.lists(st.text("abcdef", min_size=3), min_size=1, unique=True), st.data())
def test_a_valid_choice_is_nearest_to_itself(choices: list[str], data: st.DataObject) -> None:
    choice = data.draw(st.sampled_from(choices))
    assert nearest(choice, choices) == choice


def test_a_launcher_that_is_not_installed_names_its_extra() -> None:
    from ptychofno.config.composition import _explain_named

    said = str(_explain_named(Files(), [], "hydra/launcher/submitit_slurm"))
    assert said.endswith("hydra/launcher=submitit_slurm: needs pip install 'ptychofno[submitit]'")
