"""The physics-supervised training step, as a Lightning module with automatic optimization.

Shapes: B batch, C patterns per sample, N pattern size. A batch is the measured amplitude X,
float32 (B, C, N, N), and with C > 1 the patterns' positions; there is no other target. See ``batches``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ptychofno.physics import complex_patches, diffraction_amplitude, modes_of
from ptychofno.training.batches import Batch, compared, parts
from ptychofno.training.clipping import Clip, output_axes_of, total_gradient_norm
from ptychofno.training.schedules import Schedule, follow_formula


class Diverged(RuntimeError):
    """A loss or gradient is not finite. The weights are those before the step that would have been."""


class Spread:
    """How amplitudes (B, C, N, N) differ from pattern to pattern, pixel by pixel."""

    def __init__(self) -> None:
        # In double precision: on the flat plateau the variance is a small difference.
        self._count, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, amplitude: Tensor) -> None:
        amplitude = amplitude.detach().double().flatten(0, 1)
        self._count += len(amplitude)
        self._sum = self._sum + amplitude.sum(0)
        self._squares = self._squares + amplitude.square().sum(0)

    def root_sum_square(self) -> float:
        """The root of the variance over all patterns so far, summed over pixels."""
        count = max(self._count, 1)
        mean, square = self._sum / count, self._squares / count
        return float((square - mean.square()).clamp(min=0).sum().sqrt())

    def std(self, weight: Tensor) -> float:
        """The standard deviation over patterns and pixels, these with ``weight`` (N, N)."""
        weight = weight.double() / (weight.double().sum() * self._count)
        mean, square = (weight * self._sum).sum(), (weight * self._squares).sum()
        return float((square - mean.square()).clamp(min=0).sqrt())


class PhysicsSupervised(L.LightningModule):
    """Generator, known physics and loss. Of several processes, each has the step's record of the whole batch.

    ``generator`` maps amplitudes (B, C, N, N), and positions (B, C, 2) where C > 1, to patches (B, N, N, C,
    2). ``probe`` is complex64 (N, N) or, of M incoherent modes, (M, N, N); ``loss`` a mean, of (predicted,
    measured) amplitudes; ``valid`` 1 where a detector pixel is valid, else 0, float32 (N, N), None where all
    are: what is predicted elsewhere counts as the 0 that is measured there.
    """

    probe: Tensor
    valid: Tensor | None

    def __init__(
        self,
        generator: nn.Module,
        probe: Tensor,
        loss: nn.Module,
        make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Schedule,
        clip: Clip,
        total_epochs: int,
        valid: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.loss = generator, loss
        self.register_buffer("probe", probe, persistent=False)
        self.register_buffer("valid", valid, persistent=False)
        self.make_optimizer, self.schedule, self.clip = make_optimizer, schedule, clip
        self.total_epochs = total_epochs
        self.output_axes = output_axes_of(generator)
        self.step_record: dict[str, Tensor] = {}
        # Loss, gradient norm: of the first step that was not finite.
        self.not_finite = torch.zeros(2, dtype=torch.bool)
        self.on_validation_epoch_start()

    def forward(self, *batch: Tensor) -> Tensor:
        """Complex object patches (B, C, N, N)."""
        return complex_patches(self.generator(*batch))

    def diffracted(self, patch: Tensor) -> Tensor:
        """The amplitudes that patches predict, 0 where no pixel is valid."""
        predicted = diffraction_amplitude(patch, self.probe)
        return predicted if self.valid is None else predicted * self.valid

    def misfit(self, batch: Batch) -> Tensor:
        """The loss of what is predicted for a batch."""
        loss: Tensor = self.loss(self.diffracted(self(*parts(batch))), compared(batch))
        return loss

    def weights(self) -> dict[str, Tensor]:
        """A copy of the generator's state dict on the CPU."""
        weights = self.generator.state_dict()
        return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss = self.misfit(batch)
        if self.trainer.world_size > 1:  # DDP takes the mean of their gradients
            loss = loss * self.trainer.train_dataloader.weight(batch_index)  # type: ignore[union-attr]
        self.step_record = {"loss": loss.detach()}
        return loss

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **settings: Any) -> None:
        """Measure, stop when not finite, clip: runs between backward and the optimizer's step."""
        parameters = [p for p in self.generator.parameters() if p.grad is not None]
        norm = total_gradient_norm(parameters)
        loss = self.trainer.strategy.reduce(self.step_record["loss"].clone(), reduce_op="mean")
        assert isinstance(loss, Tensor)
        self.step_record = {"loss": loss, "grad_norm": norm}
        now = ~torch.isfinite(torch.stack((loss, norm)))
        self.not_finite = torch.where(self.not_finite.any(), self.not_finite, now)
        if self._reads_late(optimizer):
            # Such an optimizer leaves the weights alone where this is 1, as under loss scaling.
            optimizer.found_inf = self.not_finite.any().float()  # type: ignore[attr-defined]
        else:
            self.stop_if_diverged()
        self.step_record["grad_norm_clipped"] = self.clip(parameters, self.output_axes, norm)

    def stop_if_diverged(self) -> None:
        """Raise Diverged when a step of this epoch was not finite; the weights are those before it."""
        loss, gradient = self.not_finite.tolist()
        if loss or gradient:
            what = "loss" if loss else "gradient norm"
            raise Diverged(f"{what} is not finite in epoch {self.current_epoch + 1}")

    def on_train_start(self) -> None:
        self.not_finite = torch.zeros(2, dtype=torch.bool, device=self.device)
        follow_formula(self.trainer.lr_scheduler_configs[0].scheduler)

    def _reads_late(self, optimizer: Optimizer) -> bool:
        """Whether to look at the end of an epoch instead of making the device wait at every step."""
        fused = optimizer.param_groups[0].get("fused") or getattr(optimizer, "obeys_found_inf", False)
        return self.device.type != "cpu" and bool(fused)

    def validation_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Complex patches (B, C, N, N), for callbacks that judge them."""
        amplitude = compared(batch)
        patch, own = self._patches(batch)
        predicted = self.diffracted(patch)
        # What an output module makes of a flat patch differs from pattern to pattern: its own are looked at.
        self._predicted.add(predicted if own is patch else self.diffracted(own))
        self._measured.add(amplitude)
        self._modulus.add(own.abs())
        # Every process sees all of it; one number for all, as decisions hang on it.
        loss = self.loss(predicted, amplitude)
        self.log("val_loss", loss, batch_size=len(amplitude), on_epoch=True, logger=False, sync_dist=True)
        return patch

    def on_validation_epoch_start(self) -> None:
        self._predicted, self._measured, self._modulus = Spread(), Spread(), Spread()

    def predicted_amplitude_std(self) -> float:
        """Standard deviation of |O| over the layers' patches of the last validation.

        Weighted by the probe's intensity: what lies in its dark rim is not measured.
        """
        return self._modulus.std(modes_of(self.probe).abs().square().sum(0))

    def predicted_contrast(self) -> float:
        """How much patterns of the layers' patches differ in the last validation; of the measured ones, 1.

        0 on the flat plateau, where all are the probe's own; near 1 for the true objects, and above where an
        output module leaves the layers free to put out more than is there.
        """
        predicted, measured = self._predicted.root_sum_square(), self._measured.root_sum_square()
        return predicted / measured if measured > 0 else float("nan")

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.generator.parameters())
        scheduler = self.schedule(optimizer, self.total_epochs)
        entry = {"scheduler": scheduler, "interval": self.schedule.interval, "frequency": 1}
        if isinstance(scheduler, ReduceLROnPlateau):
            entry["monitor"] = "val_loss"
        return {"optimizer": optimizer, "lr_scheduler": entry}

    def _patches(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The network's answer, and the patch of its layers, which may be the same."""
        if not hasattr(self.generator, "own_patch"):  # a user's own
            patch = self(*parts(batch))
            return patch, patch
        own = self.generator.own_patch(parts(batch)[0])  # type: ignore[operator]
        answer = self.generator.output(own, *parts(batch))  # type: ignore[operator]
        patch = complex_patches(answer)
        return patch, patch if answer is own else complex_patches(own)
