"""Reading measured scans: from files of any known format to one ``RawScan``. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ptychofno.data.readers.files import existing_file, open_source
from ptychofno.data.readers.formats import FORMATS, recognised
from ptychofno.data.readers.keys import Layout, as_laid_out
from ptychofno.data.readers.scan import RawScan, joined, merged
from ptychofno.data.readers.source import Source

__all__ = ["FORMATS", "RawScan", "Source", "existing_file", "open_scan", "open_source", "recognised"]


@contextmanager
def open_scan(path: str, also: Sequence[str], layout: Layout | None) -> Iterator[RawScan]:
    """What the file at ``path`` and those in ``also`` tell of one scan; the patterns are read later.

    Args:
        path: named by ``data.path``. also: further files of the scan, named by ``data.also``.
        layout: what the user says of names and conventions; None for nothing.

    Raises ValueError with one line naming file, key and index of whatever is unusable.
    """
    with ExitStack() as stack:
        named = [(path, "data.path"), *((other, "data.also") for other in also)]
        sources = [stack.enter_context(open_source(file, setting)) for file, setting in named]
        raw = merged([_taken(source, layout) for source in sources])
        if layout is not None:
            raw = as_laid_out(raw, sources, layout)
        yield joined(raw)


def _taken(source: Source, layout: Layout | None) -> RawScan:
    """What a file is taken for; nothing where that fails and the layout says where all is."""
    try:
        return recognised(source)
    except ValueError:
        if layout is None or layout.patterns_keys is None or layout.positions_keys is None:
            raise
        return RawScan(source.kind)
