"""Reading measured scans: from files of any known format to one ``RawScan``. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ptychofno.data.readers.files import existing_file, open_source
from ptychofno.data.readers.formats import Format
from ptychofno.data.readers.reading import laid_out, read_as, recognised, with_conventions
from ptychofno.data.readers.scan import RawScan, joined, merged
from ptychofno.data.readers.source import Source
from ptychofno.data.settings import MeasuredLayout

__all__ = ["RawScan", "Source", "existing_file", "open_scan", "open_source"]


@contextmanager
def open_scan(path: str, also: Sequence[str], layout: MeasuredLayout | None) -> Iterator[RawScan]:
    """What the file at ``path`` and those in ``also`` tell of one scan; the patterns are read later.

    Args:
        path: named by ``data.path``. also: further files of the scan, named by ``data.also``.
        layout: what the user says of names and conventions; None for nothing.

    Raises ValueError with one line naming file, key and index of whatever is unusable.
    """
    with ExitStack() as stack:
        named = [(path, "data.path"), *((other, "data.also") for other in also)]
        sources = [stack.enter_context(open_source(file, setting)) for file, setting in named]
        forms: Sequence[Format] = [recognised(source) for source in sources]
        if layout is not None:
            forms = laid_out(forms, sources, layout)
        raw = merged([read_as(form, source) for form, source in zip(forms, sources, strict=True)])
        yield joined(raw if layout is None else with_conventions(raw, layout))
