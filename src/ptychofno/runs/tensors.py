"""Tensors in files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from ptychofno.runs import artifacts


def save_tensors(path: Path, value: Any) -> None:
    """``torch.save`` in one step; the same values give the same bytes, whatever the file is called."""
    content = io.BytesIO()  # torch's own writer would not say that a disk is full
    torch.save(value, content)
    artifacts.write_with(path, lambda temporary: temporary.write_bytes(content.getbuffer()))


def load_tensors(path: Path) -> Any:
    """What ``save_tensors`` has written, once all of it has passed the archive's checksums; no pickle."""
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} fails its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)
