"""Photon thinning: the network sees some of a pattern's photons, and the loss takes the others.

Shapes: B batch, C patterns per sample, N pattern size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ptychofno.training.batches import Batch, Thinned, parts


@dataclass(frozen=True)
class Thinning:
    """Split counts n = s² X² binomially: n₁ ~ B(n, p) are seen, n - n₁ are left to compare with.

    The parts of Poisson counts of mean λ are Poisson counts of mean p λ and (1 - p) λ and independent of each
    other, so that noise that is seen explains none of the noise that is left, and the expected loss is that
    of new measurements. Both are put in units of the full dose, X₁ = sqrt(n₁ / p) / s. It is GR2R for
    Poisson noise (Monroy et al. 2024, arXiv 2412.04648) and, before that, Noisier2Noise by thinning.

    Attributes:
        share: p. photon_scale: s.
    """

    share: float
    photon_scale: float

    def __call__(self, batch: Batch, seed: int, *place: int) -> Thinned:
        """The split of a batch. It depends on ``seed`` and ``place``, the batch's among all, alone."""
        amplitude, *positions = parts(batch)
        stream = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
        generator = torch.Generator(amplitude.device).manual_seed(int(stream[0]))
        # float32 would not hold the counts of bright pixels.
        counts = (self.photon_scale * amplitude.double()).square().round()
        seen = torch.binomial(counts, torch.full_like(counts, self.share), generator)
        rest = counts - seen
        shown, compared = (
            ((part / share).sqrt() / self.photon_scale).to(amplitude.dtype)
            for part, share in ((seen, self.share), (rest, 1 - self.share))
        )
        return Thinned((shown, *positions), compared)
