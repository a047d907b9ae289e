"""What an NPZ file claims is looked at before memory is taken for it."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ptychofno.data.readers import open_source
from ptychofno.data.readers import source as sources


def header(shape: tuple[int, ...]) -> bytes:
    written = BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((2**17, 8)) + bytes(2**23), r"'scan' would take 0\.0 GiB, 10\d\d times its part of the file"),
        (header((2**50, 2)), "'scan' is damaged"),
        (header((4, 2)).replace(b"'descr'", b"'''escr"), "'scan' is damaged"),
    ],
    ids=["zeros", "shape", "header"],
)
def test_a_false_array_is_one_line(
    content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_EMPTY_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scan.npy", content)
    with open_source(str(tmp_path / "x.npz"), "data.path") as archive, pytest.raises(ValueError, match=said):
        archive.array("scan")
