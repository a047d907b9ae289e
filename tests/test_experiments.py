"""Experiments that bring their own arms: each must still compose, and each study name arms that are there."""

from pathlib import Path

import pytest
import yaml

from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.data.objects import SimulatedData

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ARMS = sorted(EXPERIMENTS.glob("*/conf/arm/*.yaml"))
STUDIES = sorted(EXPERIMENTS.glob("*/conf/study/*.yaml"))
NEEDS = {"go_on": ["model.weights=model.pt"]}


@pytest.mark.parametrize("arm", ARMS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_an_arm_composes(arm: Path) -> None:
    overrides = [f"+arm={arm.stem}", *NEEDS.get(arm.stem, [])]
    plan = settings(compose(overrides, config_dir=str(arm.parents[1])))
    assert isinstance(plan.data, SimulatedData)


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_a_study_names_arms_that_are_there(study: Path) -> None:
    swept = yaml.safe_load(study.read_text())["hydra"]["sweeper"]["params"]
    there = {path.stem for path in (study.parents[1] / "arm").glob("*.yaml")}
    assert set(filter(None, swept.pop("+arm", "").split(","))) <= there
    first = [f"{key}={str(values).split(',')[0]}" for key, values in swept.items()]
    settings(compose([f"+study={study.stem}", *first], config_dir=str(study.parents[1])))


def test_the_small_control_is_the_control_at_the_size_of_a_laptop() -> None:
    small = compose(["+arm=small", "run_dir=here"], config_dir=str(EXPERIMENTS / "plateau/conf"))
    control = compose(
        [
            "+arm=control",
            "run_dir=here",
            "data=grid_lines_small",
            "seed=1",
            "model.hidden_channels=8",
            "trainer.num_threads=1",
            "trainer.max_epochs=8",
        ]
    )
    control.data.batch_size = 8
    assert small == control
