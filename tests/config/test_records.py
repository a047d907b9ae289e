"""What other layers get, and what is written down: values, but nothing from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from ptychofno.command import line
from ptychofno.config import schema
from ptychofno.config.composition import compose
from ptychofno.config.records import resolved_yaml, settings, write_hydra_record
from ptychofno.data.settings import MeasuredData, MeasuredLayout

SECRET = "hunter2-31337"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)


def test_settings_are_plain_dataclasses() -> None:
    config = settings(compose(["data=measured", "data/layout=tike", "data.path=x.npz"]))
    assert type(config) is schema.Config
    assert type(config.data) is MeasuredData
    assert type(config.data.layout) is MeasuredLayout
    assert type(config.data.layout.patterns_keys) is list
    assert type(config.trainer) is schema.Trainer
    assert type(config.evaluation) is schema.Evaluation


def test_interpolations_are_resolved() -> None:
    cfg = compose(["data.seed=${seed}", "seed=5", "model.modes=${model.unshuffle}"])
    written = yaml.safe_load(resolved_yaml(cfg))
    assert written["data"]["seed"] == settings(cfg).data.seed == 5
    assert written["model"]["modes"] == settings(cfg).model["modes"] == 2
    assert "${" not in resolved_yaml(cfg)


def test_the_hydra_record_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def task(cfg: DictConfig) -> None:
        write_hydra_record(cfg.run_dir)

    line.run(
        task,
        ["+arm=control", "data.cache_dir=${oc.env:SECRET}", f"+hydra.job.env_set.TOKEN={SECRET}"],
    )
    record = tmp_path / "outputs/control/control-seed20260128/.hydra"
    files = {path.name: path.read_text() for path in record.iterdir()}
    assert set(files) == {"config.yaml", "overrides.yaml", "hydra.yaml"}
    assert SECRET not in files["hydra.yaml"] + files["config.yaml"]
    assert yaml.safe_load(files["overrides.yaml"]) == ["+arm=control", "data.cache_dir=${oc.env:SECRET}"]
    assert yaml.safe_load(files["config.yaml"])["trainer"]["max_epochs"] == 20
    assert yaml.safe_load(files["hydra.yaml"])["hydra"]["runtime"]["choices"]["arm"] == "control"


def test_outside_a_job_there_is_no_hydra_record(tmp_path: Path) -> None:
    write_hydra_record(tmp_path)
    assert list(tmp_path.iterdir()) == []
