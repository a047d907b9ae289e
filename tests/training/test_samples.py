"""What a training step sees beside amplitudes: positions of neighbours, and a mask of valid pixels."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ptychofno import build, models, physics
from ptychofno.config.composition import compose
from ptychofno.config.errors import ConfigError
from ptychofno.config.records import settings
from ptychofno.data import PtychoDataset, Split
from ptychofno.data.measured import read_measured
from ptychofno.data.probe import DatasetProbe
from ptychofno.train import setup
from ptychofno.training import schedules
from ptychofno.training.batches import ResidentBatches
from ptychofno.training.clipping import NoClip
from ptychofno.training.fit import ResidentData, fit
from ptychofno.training.interruption import StopRequest
from ptychofno.training.losses import MAELoss, flat_baseline
from ptychofno.training.module import PhysicsSupervised
from ptychofno.training.numerics import reproducible
from ptychofno.training.schedules import Schedule

SIZE = 16
OFFSETS = np.array([[0, 0], [0, 3], [3, 0], [3, 3]], dtype=np.float64)
VALID = np.ones((SIZE, SIZE), np.float32)
VALID[6:9, 9:12] = 0
OUTPUTS: dict[str, dict[str, Any]] = {
    "patch": {"_target_": "ptychofno.models.PatchOutput"},
    "projected": {"_target_": "ptychofno.models.ProjectedOutput", "rounds": 2, "epsilon": 0.01},
}


def dataset(scan: dict[str, Tensor], patches: int, masked: bool = False) -> PtychoDataset:
    """Samples of ``patches``, of true amplitudes; ``masked`` hides a block of every pattern."""
    first = np.stack(np.meshgrid(*[np.arange(0, 18, 4)] * 2), -1).reshape(-1, 1, 2)
    positions = (first + OFFSETS[:patches]).astype(np.float64)
    found = physics.extract_patches(scan["object"], torch.from_numpy(positions.reshape(-1, 2)), SIZE)
    amplitude = physics.diffraction_amplitude(found, scan["probe"]).reshape(-1, patches, SIZE, SIZE).numpy()
    valid = None
    if masked:
        valid = VALID
        amplitude = amplitude * valid
    split = Split(amplitude, positions, np.zeros(len(positions), np.int64))
    mean, rms = float(amplitude.mean()), float(np.square(amplitude).mean()) ** 0.5
    probe = scan["probe"].numpy()
    return PtychoDataset("small", "key", probe, 1.0, mean, rms, split, split, split, None, None, valid)


def network(data: PtychoDataset, output: str, neighbours: str = "channels") -> models.Generator:
    torch.manual_seed(0)
    config = {
        "_target_": "ptychofno.models.CNNGenerator",
        "levels": 2,
        "hidden_channels": 4,
        "neighbours": neighbours,
        "inputs": {"_target_": "ptychofno.models.BackprojectionInput", "epsilon": 0.01},
        "output": OUTPUTS[output],
    }
    built = models.build_generator(config, **build.model_context(data))
    assert isinstance(built, models.Generator)
    return built


def module(data: PtychoDataset, generator: torch.nn.Module) -> PhysicsSupervised:
    valid = None if data.valid is None else torch.from_numpy(data.valid)
    loss = MAELoss(data.mean_amplitude)
    adam = partial(torch.optim.Adam, lr=1e-3)
    probe = torch.from_numpy(data.probe)
    return PhysicsSupervised(
        generator, probe, loss, adam, Schedule(schedules.constant), NoClip(), 2, valid=valid
    )


def trained(data: PtychoDataset, generator: torch.nn.Module, run_dir: Path) -> dict[str, list[Any]]:
    """The history of two epochs."""
    with reproducible(0, 1):
        outcome = fit(
            module(data, generator),
            ResidentData(build.as_batch(data.train), build.as_batch(data.validation), 8, False, seed=0),
            run_dir,
            accelerator="cpu",
            precision="32-true",
            stop=StopRequest(),
            enable_checkpointing=False,
            flat_baseline=1.0,
        )
    assert outcome.diverged is None
    return outcome.epochs


@pytest.mark.parametrize("neighbours", ["channels", "single"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_neighbours_train_together(scan, tmp_path: Path, output: str, neighbours: str) -> None:
    data = dataset(scan, 4)
    epochs = trained(data, network(data, output, neighbours), tmp_path)
    first, last = epochs["train_loss"]
    assert last < first


@pytest.mark.parametrize("output", OUTPUTS)
def test_patches_of_a_sample_are_equal_where_they_overlap(scan, output: str) -> None:
    data = dataset(scan, 4)
    amplitude, positions = build.as_batch(data.train, slice(2))
    one = physics.complex_patches(network(data, output)(amplitude, positions))
    torch.testing.assert_close(one[:, 0, :, 3:], one[:, 1, :, :-3])


def test_one_at_a_time_neighbours_are_seen_as_they_are_alone(scan) -> None:
    data = dataset(scan, 4)
    amplitude, _ = build.as_batch(data.train, slice(3))
    together = network(data, "projected", "single")(amplitude)
    alone = network(data, "projected", "single")(amplitude.reshape(12, 1, SIZE, SIZE))
    torch.testing.assert_close(together.permute(0, 3, 1, 2, 4).flatten(0, 1), alone[..., 0, :])


def test_batches_keep_a_sample_together() -> None:
    amplitude, positions = torch.arange(10.0), 2 * torch.arange(10.0)
    batches = list(ResidentBatches((amplitude, positions), 4, seed=1, drop_last=False))
    assert [len(one) for one, _ in batches] == [4, 4, 2]
    assert all(torch.equal(where, 2 * one) for one, where in batches)
    plain = list(ResidentBatches(amplitude, 4, seed=1, drop_last=False))
    assert all(torch.equal(one, other) for one, (other, _) in zip(plain, batches, strict=True))


@pytest.mark.parametrize(
    ("needing", "said"),
    [
        ("loss=poisson", r"^loss \(PoissonLoss\): needs counts, .* amplitudes; expected loss=mae$"),
        ("data.thinning=0.5", r"^data.thinning=0.5: needs counts, .* expected data.thinning=null$"),
    ],
)
def test_counts_that_a_file_does_not_tell_cannot_be_used(scan, needing: str, said: str) -> None:
    cfg = compose(["data=measured", "data.path=scan.npz", needing])
    of_counts = dataset(scan, 1)
    use = setup.loss if "loss" in needing else setup.batches
    use(cfg, of_counts)
    with pytest.raises(ConfigError, match=said):
        use(cfg, replace(of_counts, counts=False))


# --- incoherent modes -------------------------------------------------------------------------


def partially_coherent(scan: dict[str, Tensor]) -> dict[str, Tensor]:
    row = (torch.arange(SIZE) - SIZE // 2)[:, None] / 4
    probe = scan["probe"]
    return scan | {"probe": torch.stack([probe, 0.4 * row * probe, 0.3 * row.T * probe]).to(probe.dtype)}


@pytest.mark.parametrize("patches", [1, 4])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_network_trains_with_all_modes(scan, tmp_path: Path, output: str, patches: int) -> None:
    data = dataset(partially_coherent(scan), patches)
    built = network(data, output)
    batch = build.as_batch(data.train)
    _, level = flat_baseline(MAELoss(data.mean_amplitude), batch, torch.from_numpy(data.probe), built.output)
    assert 0.5 < level < 2
    epochs = trained(data, built, tmp_path)
    first, last = epochs["train_loss"]
    assert last < first


def test_true_patches_have_no_loss_with_all_modes_and_some_with_one(scan) -> None:
    data = dataset(partially_coherent(scan), 1)
    built = module(data, network(data, "patch"))
    corners = torch.from_numpy(data.train.positions_px.reshape(-1, 2))
    true = physics.extract_patches(scan["object"], corners, SIZE)[:, None]
    measured = torch.from_numpy(data.train.amplitude)
    assert float(built.loss(built.diffracted(true), measured)) < 1e-5
    built.probe = built.probe[0]
    assert float(built.loss(built.diffracted(true), measured)) > 0.02


# --- the mask --------------------------------------------------------------------------------


def measured(path: Path, data: PtychoDataset, hidden: float) -> PtychoDataset:
    """The same data from a file with ``hidden`` where its mask says that nothing is valid."""
    patterns = np.where(VALID > 0, data.train.amplitude[:, 0], np.float32(hidden))
    positions = data.train.positions_px[:, 0]
    np.savez(path, data=patterns, probe=data.probe, scan=positions, mask=VALID)
    said = [f"data.path={path}", "data.held_out_every=5", "data.batch_size=8"]
    said += ["data.layout.quantity=amplitude", "data.layout.zero_frequency=centre"]
    plan = settings(compose(["data=measured", "probe=dataset", *said]))
    return read_measured(plan.data, DatasetProbe(), "key")


@pytest.mark.parametrize("hidden", [1e6, np.nan])
def test_what_a_masked_pixel_holds_changes_no_loss(scan, tmp_path: Path, hidden: float) -> None:
    found = []
    for index, stored in enumerate((0.0, hidden)):
        data = measured(tmp_path / f"{index}.npz", dataset(scan, 1), stored)
        epochs = trained(data, network(data, "projected"), tmp_path / f"run{index}")
        found.append((epochs["train_loss"], epochs["val_loss"]))
    assert found[0] == found[1]


class Truth(torch.nn.Module):
    def __init__(self, patches: Tensor) -> None:
        super().__init__()
        self.patches = torch.nn.Parameter(torch.view_as_real(patches.permute(0, 2, 3, 1).contiguous()))

    def forward(self, amplitude: Tensor) -> Tensor:
        return self.patches


def test_true_patches_have_no_loss_behind_a_mask(scan) -> None:
    data = dataset(scan, 1, masked=True)
    positions = torch.from_numpy(data.train.positions_px[:, 0])
    truth = module(data, Truth(physics.extract_patches(scan["object"], positions, SIZE)[:, None]))
    amplitude = build.as_batch(data.train)
    assert truth.misfit(amplitude).item() < 1e-5
    truth.log = lambda *args, **kwargs: None
    truth.on_validation_epoch_start()
    truth.validation_step(amplitude, 0)
    assert truth.predicted_contrast() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("output", [None, "projected"])
def test_a_flat_object_is_explained_behind_a_mask(scan, output: str | None) -> None:
    data = dataset(scan, 1, masked=True)
    probe, valid = torch.from_numpy(data.probe), torch.from_numpy(data.valid)
    flat = physics.diffraction_amplitude(torch.full_like(probe, 0.7), probe).expand(3, 1, -1, -1) * valid
    after = None if output is None else network(data, output).output
    best, amplitude = flat_baseline(MAELoss(1.0), flat, probe, after, valid)
    assert best < 1e-4 and amplitude == pytest.approx(0.7, rel=1e-3)


def test_weights_are_those_of_a_network_without_a_mask(scan) -> None:
    with_mask, without = (network(dataset(scan, 1, masked), "projected") for masked in (True, False))
    assert with_mask.state_dict().keys() == without.state_dict().keys()
    assert with_mask.output.valid is not None
