"""Reading single arrays out of NPZ files that a user brings, with errors that name the way out."""

from __future__ import annotations

import difflib
import tokenize
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np

# What a damaged archive, or a header that tells another shape, may raise.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, SyntaxError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# No measurement is that large and that empty.
_EMPTY_BYTES, _EMPTY_RATIO = 2**28, 500

SMALLEST, LARGEST = 1e-12, 1e12
"""Between these a peak amplitude may lie: single precision has to hold its square, summed over pixels."""


def existing_file(path: str, setting: str) -> Path:
    """The file that ``setting`` names. Raises ValueError where there is none."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(f"{setting}={path}: is a directory; expected an NPZ file")
    if not file.is_file():
        raise ValueError(f"{setting}={path}: no such file; expected an NPZ file")
    return file


class NpzArchive:
    """An NPZ file opened without pickle; a context manager.

    Args:
        path: the file.
        setting: the setting that named it, such as ``data.path``; starts every message.

    Raises ValueError where the file is missing or no NPZ archive.
    """

    def __init__(self, path: str, setting: str) -> None:
        self.source = f"{setting}={path}"
        file = existing_file(path, setting)
        try:
            # numpy takes any other file for a pickle, and would say so.
            if not zipfile.is_zipfile(file):
                raise ValueError("another format, or cut short")
            archive = np.load(file, allow_pickle=False)
        except _UNREADABLE as error:
            raise ValueError(f"{self.source}: not a readable NPZ file ({_one_line(error)})") from error
        self._archive = archive

    @property
    def keys(self) -> list[str]:
        """The names of the arrays in the file."""
        return list(self._archive.files)

    def array(self, key: str, setting: str) -> np.ndarray:
        """The numeric array under ``key``, which ``setting`` asked for.

        Raises ValueError for a missing key (naming the nearest one), pickled objects, text,
        and a damaged file.
        """
        if key not in self.keys:
            raise self.missing([key], setting)
        for member in self._archive.zip.infolist():
            ratio = member.file_size / max(1, member.compress_size)
            named = member.filename.removesuffix(".npy") == key
            if named and member.file_size > _EMPTY_BYTES and ratio > _EMPTY_RATIO:
                raise ValueError(
                    f"{self.source}: '{key}' would take {member.file_size / 2**30:.1f} GiB, {ratio:.0f} times"
                    " its part of the file; expected measured numbers"
                )
        try:
            array = self._archive[key]
        except _UNREADABLE as error:
            if "allow_pickle" in str(error):
                raise ValueError(
                    f"{self.source}: '{key}' holds pickled objects, which are refused; save a numeric array"
                ) from error
            raise ValueError(f"{self.source}: '{key}' is damaged ({_one_line(error)})") from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
            kind = getattr(array, "dtype", "no array")
            raise ValueError(f"{self.source}: '{key}' is {kind}; expected numbers")
        return array

    def missing(self, keys: list[str], setting: str) -> ValueError:
        """The error for a file that has none of ``keys``."""
        wanted = " or ".join(f"'{key}'" for key in keys)
        available = ", ".join(f"'{key}'" for key in self.keys) or "none"
        nearest = max(self.keys, key=lambda name: max(_similarity(name, key) for key in keys), default=None)
        hint = f"; nearest: '{nearest}'" if nearest is not None else ""
        return ValueError(f"{self.source}: no array {wanted} ({setting}); available: {available}{hint}")

    def __enter__(self) -> NpzArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()


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


def _similarity(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
