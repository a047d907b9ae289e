"""pty-chi's LSQ-ML (Odstrčil et al. 2018) on a simulated scan, for comparison: an independent solver."""

from __future__ import annotations

import numpy as np
from ptychi import api
from ptychi.api.task import PtychographyTask


def lsqml(
    amplitude: np.ndarray,
    positions_px: np.ndarray,
    probe: np.ndarray,
    shape: tuple[int, int],
    photon_scale: float,
    epochs: int,
    refine_probe: bool = False,
) -> np.ndarray:
    """The object, complex64 of ``shape``, from amplitudes (n, N, N) at top-left corners (n, 2), from flat.

    The probe is known unless ``refine_probe``. Batches of 16 patterns, as in pty-chi's examples.
    """
    size = probe.shape[-1]
    options = api.LSQMLOptions()
    options.data_options.data = (amplitude.astype(np.float64) * photon_scale) ** 2
    options.data_options.fft_shift = True
    options.object_options.initial_guess = np.ones((1, *shape), dtype=np.complex64)
    options.object_options.pixel_size_m = 1.0
    options.probe_options.initial_guess = (probe * photon_scale)[None, None].astype(np.complex64)
    options.probe_options.optimizable = refine_probe
    centres = positions_px + size / 2 - np.array(shape) / 2
    options.probe_position_options.position_y_px = centres[:, 0]
    options.probe_position_options.position_x_px = centres[:, 1]
    options.probe_position_options.optimizable = False
    options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    options.object_options.position_origin_coords = np.array(shape) / 2
    options.reconstructor_options.num_epochs = epochs
    options.reconstructor_options.batch_size = 16
    options.reconstructor_options.default_device = api.Devices.CPU
    task = PtychographyTask(options)
    task.run()
    return np.asarray(task.get_data_to_cpu("object", as_numpy=True)[0], dtype=np.complex64)
