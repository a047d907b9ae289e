"""What a dataset has to offer to be evaluated. n samples, C channels, N pattern size, k objects of (H, W)."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Scanned(Protocol):
    """Where samples were taken: positions (n, C, 2) in pixels, object index (n,)."""

    @property
    def positions_px(self) -> Array: ...
    @property
    def object_index(self) -> Array: ...


class Split(Scanned, Protocol):
    """Samples: also amplitudes (n, C, N, N)."""

    @property
    def amplitude(self) -> Array: ...


class Dataset(Protocol):
    """Three splits; ``scan()`` of a measured dataset holds training, validation and test in this order.

    ``test_objects`` are complex64 (k, H, W), None for measured data; ``probe`` is complex64 (N, N),
    or (M, N, N) of M modes, ``given_probe`` the one before refinement; ``valid`` (N, N) is 0 at bad detector
    pixels.
    """

    @property
    def probe(self) -> Array: ...
    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split: ...
    @property
    def test(self) -> Split: ...
    @property
    def test_objects(self) -> Array | None: ...
    @property
    def valid(self) -> Array | None: ...
    @property
    def given_probe(self) -> Array | None: ...
    @property
    def object_pixel_m(self) -> float | None: ...
    def scan(self) -> Split: ...
