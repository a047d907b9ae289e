"""How fine spokes are resolved: python experiments/siemens_star/spokes.py RUN_DIR [RUN_DIR ...]

Prints the amplitude of the 30-fold modulation of the phase along circles around the star's centre, and the
median over the orders 45 to 56, which no spoke has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

CENTRE_PX = (225.0, 206.0)  # row, column; where the modulation at radii 70, 90 and 110 px is largest
SPOKES = 30
RADII_PX = (30, 35, 40, 45, 50, 60, 80, 100)


def modulation(phase: np.ndarray, radius_px: float) -> tuple[float, float]:
    """Amplitude of order ``SPOKES`` and of the background, rad, on a circle of the phase (H, W)."""
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = [CENTRE_PX[0] + radius_px * np.sin(angle), CENTRE_PX[1] + radius_px * np.cos(angle)]
    orders = np.abs(np.fft.rfft(map_coordinates(phase, circle, order=1))) / 360
    return float(orders[SPOKES]), float(np.median(orders[45:57]))


def main(run_dirs: list[str]) -> None:
    for run_dir in run_dirs:
        phase = np.angle(np.load(Path(run_dir) / "reconstruction.npz")["prediction"])
        print(run_dir)
        for radius in RADII_PX:
            spokes, background = modulation(phase, radius)
            period = 2 * np.pi * radius / SPOKES
            print(
                f"  {radius:3d} px (period {period:4.1f} px): {spokes:.3f}, background {background:.3f} rad"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
