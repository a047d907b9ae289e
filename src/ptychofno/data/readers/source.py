"""A file that a user brings, as a set of arrays under keys. Nothing of it is trusted.

No pickle is loaded, no link that leaves the file is followed, and what an array claims to be is compared with
what the file holds before memory is taken for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np

# Between these a peak amplitude may lie: single precision has to hold its square, summed over pixels.
SMALLEST, LARGEST = 1e-12, 1e12
_EMPTY_BYTES, _EMPTY_RATIO = 2**28, 500  # no measurement is that large and that empty
_COMPLEX_FIELDS = (("real", "imag"), ("r", "i"))
_SHOWN_KEYS = 12


class Lazy(Protocol):
    """An array that stays in its file until it is sliced along its first axes."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, index: Any) -> Any: ...


@dataclass(frozen=True)
class Source:
    """An open file."""

    label: str  # the setting and the path that named it, such as ``data.path=scan.h5``; starts every message
    kind: str  # what the file is, such as HDF5
    arrays: Mapping[str, Callable[[], Lazy]]  # what gives the unread array under a key; groups end in '/'
    attributes: Callable[[str], Mapping[str, Any]] = lambda key: {}  # of an array, or of the file (key empty)
    swapped: bool = (
        False  # whether the last two axes of every array stand the other way, as in MATLAB's files
    )
    elsewhere: Mapping[str, str] = field(default_factory=dict)  # keys that link to another file, and which

    @property
    def keys(self) -> list[str]:
        return list(self.arrays)

    def matching(self, name: str) -> list[str]:
        """The keys that ``name`` stands for, in which ``*`` is anything; chunk 10 comes after chunk 2."""
        if "*" not in name:
            return [name] if name in self.arrays else []
        return sorted((key for key in self.arrays if fnmatchcase(key, name)), key=_natural)

    def find(self, *names: str) -> str | None:
        """The key that the first of ``names`` stands for that is there."""
        return next((key for name in names for key in self.matching(name)), None)

    def lazy(self, key: str) -> Lazy:
        """The array under ``key``, of any type, unread where the file allows that."""
        return self.arrays[key]()

    def numbers(self, key: str) -> Lazy:
        """The unread array of numbers under ``key``. Raises ValueError for what are no numbers."""
        array = self.lazy(key)
        if array.dtype.kind not in "biuf" and not is_complex(array.dtype):
            raise ValueError(f"{self.label}: '{key}' is {array.dtype}; expected numbers")
        return array

    def array(self, key: str) -> np.ndarray:
        """The array of numbers under ``key``, read; structures of (real, imag) as complex numbers."""
        array = np.asarray(self.numbers(key)[()])
        if array.dtype.names is not None:
            real, imag = array.dtype.names
            array = array[real] + 1j * array[imag]
        return array.swapaxes(-1, -2) if self.swapped and array.ndim > 1 else array

    def reals(self, key: str) -> np.ndarray:
        """The real numbers under ``key``, float64. Raises ValueError for others and not finite ones."""
        array = self.array(key)
        if np.iscomplexobj(array):
            raise ValueError(f"{self.label}: '{key}' is {array.dtype}; expected real positions")
        require_finite(array, self.label, key)
        return array.astype(np.float64)

    def number(self, key: str) -> float | None:
        """The positive number, or the first of two, under ``key``: an array or an attribute of its group."""
        if key in self.arrays and (lazy := self.lazy(key)).dtype.kind in "biuf" and size_of(lazy) in (1, 2):
            value = float(np.asarray(lazy[()]).flat[0])
        else:
            group, _, name = key.rpartition("/")
            found = self.attributes(group).get(name)
            value = float(found) if isinstance(found, int | float | np.number) else np.nan
        return value if np.isfinite(value) and value > 0 else None

    def missing(self, keys: list[str], setting: str) -> ValueError:
        """The error for a file that has none of ``keys``, which ``setting`` asked for."""
        for key in keys:
            if key in self.elsewhere:
                return ValueError(
                    f"{self.label}: '{key}' links to another file, '{self.elsewhere[key]}', which is not"
                    " followed; give that file as data.path or in data.also"
                )
        wanted = " or ".join(f"'{key}'" for key in keys)
        available = ", ".join(f"'{key}'" for key in self.keys[:_SHOWN_KEYS]) or "none"
        more = f" and {len(self.arrays) - _SHOWN_KEYS} more" if len(self.arrays) > _SHOWN_KEYS else ""
        nearest = difflib.get_close_matches(keys[0], self.keys, n=1, cutoff=0)
        hint = f"; nearest: '{nearest[0]}'" if nearest else ""
        return ValueError(f"{self.label}: no array {wanted} ({setting}); available: {available}{more}{hint}")


def is_complex(dtype: np.dtype[Any]) -> bool:
    """Complex numbers, or structures of real and imaginary part, as MATLAB writes them."""
    return dtype.kind == "c" or dtype.names in _COMPLEX_FIELDS


def size_of(lazy: Lazy) -> int:
    """Number of elements."""
    return int(np.prod(lazy.shape, dtype=object))


def damaged(label: str, key: str, error: BaseException) -> ValueError:
    """The error for an array that cannot be read."""
    return ValueError(f"{label}: '{key}' is damaged ({one_line(error)})")


def require_content(label: str, key: str, size: int, stored: int) -> None:
    """Raise ValueError for an array of ``size`` bytes of which the file holds next to nothing."""
    if size > _EMPTY_BYTES and size > _EMPTY_RATIO * max(1, stored):
        raise ValueError(
            f"{label}: '{key}' would take {size / 2**30:.1f} GiB, {size / max(1, stored):.0f} times its part"
            " of the file; expected measured numbers"
        )


def first_index(mask: np.ndarray) -> list[int]:
    """The first true entry of ``mask`` as an index a user can type, such as ``[3, 17, 5]``."""
    return [int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape)]


def require_finite(array: np.ndarray, label: str, key: str) -> None:
    """Raise ValueError naming the first NaN or infinite entry."""
    broken = ~np.isfinite(array)
    if broken.any():
        raise ValueError(
            f"{label}: '{key}'{first_index(broken)} is {array[broken][0]}; expected finite values"
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


def _natural(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split("/")]
