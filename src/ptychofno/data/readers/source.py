"""A file that a user brings, as a set of arrays under keys. Nothing of it is trusted.

No pickle is loaded, no link that leaves the file is followed, and what an array claims to be is compared with
what the file holds before memory is taken for it.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

SMALLEST, LARGEST = 1e-12, 1e12
"""Between these a peak amplitude may lie: single precision has to hold its square, summed over pixels."""

_EMPTY_BYTES, _EMPTY_RATIO = 2**28, 500
"""No measurement is that large and that empty."""

_COMPLEX_FIELDS = (("real", "imag"), ("r", "i"))


class Lazy(Protocol):
    """An array that stays in its file until it is sliced along its first axes."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, index: Any) -> Any: ...


class Source(ABC):
    """An open file; a context manager.

    Args:
        label: the setting and the path that named it, such as ``data.path=scan.h5``; starts every message.
    """

    kind: str
    """What the file is, such as HDF5."""
    swapped: bool = False
    """Whether the last two axes of every array stand the other way, as MATLAB writes them."""

    def __init__(self, label: str) -> None:
        self.label = label

    @property
    @abstractmethod
    def keys(self) -> list[str]:
        """The names of the arrays, with '/' between those of groups."""

    @abstractmethod
    def lazy(self, key: str) -> Lazy:
        """The array under ``key``, of any type, unread where the file allows that."""

    def attributes(self, key: str) -> Mapping[str, Any]:
        """What the file says of an array, or of itself (``key`` empty): numbers and texts."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what readers ask for ----------------------------------------------------------------

    def find(self, *keys: str) -> str | None:
        """The first of ``keys`` that is there."""
        return next((key for key in keys if key in self.keys), None)

    def numeric(self, key: str, setting: str) -> Lazy:
        """The unread array of numbers under ``key``, which ``setting`` asked for.

        Raises ValueError for a missing key (naming the nearest one), and for what are no numbers.
        """
        if key not in self.keys:
            raise self.missing([key], setting)
        array = self.lazy(key)
        if array.dtype.kind not in "biufc" and complex_fields(array.dtype) is None:
            raise ValueError(f"{self.label}: '{key}' is {array.dtype}; expected numbers")
        return array

    def array(self, key: str, setting: str) -> np.ndarray:
        """The array of numbers under ``key``, read; structures of (real, imag) as complex numbers."""
        lazy = self.numeric(key, setting)
        array = np.asarray(lazy[()])
        if (fields := complex_fields(array.dtype)) is not None:
            array = array[fields[0]] + 1j * array[fields[1]]
        return array.swapaxes(-1, -2) if self.swapped and array.ndim > 1 else array

    def reals(self, key: str, setting: str) -> np.ndarray:
        """The real numbers under ``key``, float64. Raises ValueError for others and not finite ones."""
        array = self.array(key, setting)
        if np.iscomplexobj(array):
            raise ValueError(f"{self.label}: '{key}' is {array.dtype}; expected real positions")
        require_finite(array, self.label, key)
        return array.astype(np.float64)

    def number(self, *keys: str) -> float | None:
        """The single number under the first of ``keys`` that holds one, as an array or an attribute."""
        for key in keys:
            if key in self.keys and (lazy := self.lazy(key)).dtype.kind in "biuf" and lazy_size(lazy) == 1:
                value = float(np.asarray(lazy[()]).reshape(()))
            else:
                group, _, name = key.rpartition("/")
                found = self.attributes(group).get(name)
                if not isinstance(found, int | float | np.number):
                    continue
                value = float(found)
            if np.isfinite(value) and value > 0:
                return value
        return None

    def missing(self, keys: list[str], setting: str) -> ValueError:
        """The error for a file that has none of ``keys``."""
        wanted = " or ".join(f"'{key}'" for key in keys)
        shown = self.keys[:12]
        available = ", ".join(f"'{key}'" for key in shown) or "none"
        more = "" if len(shown) == len(self.keys) else f" and {len(self.keys) - len(shown)} more"
        nearest = max(self.keys, key=lambda name: max(_similarity(name, key) for key in keys), default=None)
        hint = f"; nearest: '{nearest}'" if nearest is not None else ""
        return ValueError(f"{self.label}: no array {wanted} ({setting}); available: {available}{more}{hint}")

    def damaged(self, key: str, error: BaseException) -> ValueError:
        """The error for an array that cannot be read."""
        return ValueError(f"{self.label}: '{key}' is damaged ({one_line(error)})")

    def require_content(self, key: str, size: int, stored: int) -> None:
        """Raise ValueError for an array of ``size`` bytes of which the file holds next to nothing."""
        if size > _EMPTY_BYTES and size > _EMPTY_RATIO * max(1, stored):
            raise ValueError(
                f"{self.label}: '{key}' would take {size / 2**30:.1f} GiB, {size / max(1, stored):.0f} times"
                " its part of the file; expected measured numbers"
            )


def complex_fields(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """The names of real and imaginary part in a structure, as MATLAB writes complex numbers."""
    return next((pair for pair in _COMPLEX_FIELDS if dtype.names == pair), None)


def lazy_size(lazy: Lazy) -> int:
    """Number of elements."""
    return int(np.prod(lazy.shape, dtype=object))


def first_index(mask: np.ndarray) -> str:
    """The first true entry of ``mask`` as an index a user can type, such as ``[3, 17, 5]``."""
    return str([int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape)])


def require_finite(array: np.ndarray, source: str, key: str) -> None:
    """Raise ValueError naming the first NaN or infinite entry."""
    broken = ~np.isfinite(array)
    if broken.any():
        raise ValueError(
            f"{source}: '{key}'{first_index(broken)} is {array[broken][0]}; expected finite values"
            f" ({int(broken.sum())} of {array.size} are not)"
        )


def require_scale(peak: float, where: str) -> None:
    """Raise ValueError when arrays with this largest magnitude do not suit single precision."""
    if peak > 0 and not SMALLEST <= peak <= LARGEST:
        raise ValueError(
            f"{where} reaches an amplitude of {peak:.3g}; expected a largest amplitude of {SMALLEST:g} to"
            f" {LARGEST:g}, which single precision can square; choose another unit"
        )


def one_line(error: BaseException) -> str:
    """What an exception says."""
    return " ".join(str(error).split()) or type(error).__name__


def _similarity(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()
