"""Live logs with the real packages, without a network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

import pytest

from ptychofno.command import line
from ptychofno.train import train

SMALL = ["data=grid_lines_tiny", "trainer.max_epochs=2", "model.hidden_channels=4", "refine=none"]
SECRET = "hunter2-not-for-you"


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*overrides: str) -> None:
    line.run(train, [*SMALL, "run_dir=outputs/run", *overrides])


def test_csv_and_tensorboard_at_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "conf/logger").mkdir(parents=True)
    (tmp_path / "conf/logger/both.yaml").write_text("defaults: [tensorboard, csv]\n")
    run("--config-dir", "conf", "logger=both")
    events = EventAccumulator("outputs/run/tensorboard")
    events.Reload()
    assert len(events.Scalars("val_loss")) == 2
    assert 0 < events.Scalars("final/ssim_amplitude")[0].value <= 1
    assert set(events.Tags()["images"]) == {"curves", "reconstruction"}
    assert "final/ssim_amplitude" in Path("outputs/run/csv/metrics.csv").read_text()
    for settings in Path("outputs/run").glob("*/hparams.yaml"):
        assert "hidden_channels: 4" in settings.read_text() and "logger:" not in settings.read_text()


def test_wandb_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install ptychofno[wandb]")
    monkeypatch.setenv("WANDB_API_KEY", SECRET * 3)
    run("logger=wandb")
    assert wandb.run is None, "the next run of this process begins its own"
    (log,) = Path("outputs/run/wandb").glob("offline-run-*/*.wandb")
    content = log.read_bytes()
    for expected in (b"final/ssim_amplitude", b"hidden_channels", b"val_loss", b"reconstruction"):
        assert expected in content
    assert not any(
        SECRET.encode() in file.read_bytes() for file in Path("outputs/run").rglob("*") if file.is_file()
    )
    assert len(list(log.parent.glob("files/media/images/*.png"))) == 2


@pytest.fixture(params=["file", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of mlflow's records: a SQLite file, or a server of its own over one."""
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install ptychofno[mlflow]")
    file = f"sqlite:///{tmp_path}/mlflow.db"
    if request.param == "file":
        yield file
        return
    if int(version("sqlalchemy").split(".")[0]) < 2:
        pytest.skip("mlflow's server needs SQLAlchemy 2, and optuna's storage SQLAlchemy 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", file, "--workers", "1"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts"), "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as server:
        try:
            yield _answering(f"http://127.0.0.1:{port}", server)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _answering(address: str, server: subprocess.Popen[bytes]) -> str:
    while server.poll() is None:
        try:
            with urlopen(f"{address}/health", timeout=5):
                return address
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"mlflow server ended with {server.returncode}")


def test_mlflow(store: str) -> None:
    from mlflow.tracking import MlflowClient

    run("logger=mlflow", f"logger.mlflow.tracking_uri={store}")
    client = MlflowClient(store)
    (logged,) = client.search_runs([client.get_experiment_by_name("ptychofno").experiment_id])
    assert logged.info.status == "FINISHED" and logged.info.run_name == "outputs/run"
    assert logged.data.params["model/hidden_channels"] == "4"
    assert 0 < logged.data.metrics["final/ssim_amplitude"] <= 1
    assert len(client.get_metric_history(logged.info.run_id, "val_loss")) == 2
    names = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
    assert names >= {"curves.png", "reconstruction.png"}


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(SystemExit) as stopped:
        run("logger=wandb")
    assert stopped.value.code == 2 and "logger: " in capsys.readouterr().err
