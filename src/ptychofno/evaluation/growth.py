"""The order in which patches are joined: each next to those that are joined already."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray


def growth_order(corners: NDArray[Any], size: int) -> list[int]:
    """Indices of all patches, each the one that overlaps most, in area, with those before it.

    The first is the one nearest the middle; of several that overlap alike the first in ``corners`` comes
    first. Patches are kept in square cells as wide as a patch, so that one overlaps only with those of the
    nine cells around it, and the best one of every cell lies on a heap: n log n for n patches.

    Args:
        corners: whole pixels (n, 2), (row, col) of the top-left pixels of patches of ``size``.
    """
    cells, cell_of = np.unique(np.asarray(corners) // size, axis=0, return_inverse=True)
    # From here on patches are numbered cell by cell, cells row by row.
    order = np.argsort(cell_of.ravel(), kind="stable")
    cell_of = cell_of.ravel()[order]
    places = np.asarray(corners, dtype=np.float32)[order]
    starts = np.searchsorted(cell_of, np.arange(len(cells) + 1)).tolist()
    neighbours = _neighbours(cells)
    overlap = np.zeros(len(places), dtype=np.float32)
    best = [0] * len(cells)

    def entry(cell: int) -> tuple[float, int, int]:
        """For the heap: the most overlap in a cell, negative, and whose it is."""
        first = starts[cell]
        place = best[cell] = first + int(overlap[first : starts[cell + 1]].argmax())
        return -float(overlap[place]), int(order[place]), cell

    heap = [entry(cell) for cell in range(len(cells))]
    heapify(heap)
    from_middle = np.square(places - places.mean(axis=0)).sum(axis=1)
    newest = int(np.lexsort((order, from_middle))[0])
    joined = [int(order[newest])]
    while len(joined) < len(places):
        for row in neighbours[cell_of[newest]]:
            near = slice(starts[row[0]], starts[row[-1] + 1])
            shared = np.maximum(size - np.abs(places[near] - places[newest]), 0)
            overlap[near] += shared[:, 0] * shared[:, 1]
        overlap[newest] = -np.inf
        for row in neighbours[cell_of[newest]]:
            for cell in row:
                heappush(heap, entry(cell))
        area, index, cell = heappop(heap)
        while order[best[cell]] != index or -overlap[best[cell]] != area:
            area, index, cell = heappop(heap)  # the one before has changed since it was pushed
        newest = best[cell]
        joined.append(index)
    return joined


def _neighbours(cells: NDArray[Any]) -> list[list[list[int]]]:
    """For each of sorted ``cells`` (n, 2) the numbers of those that are it or touch it, row by row."""
    number = {(row, col): i for i, (row, col) in enumerate(cells.tolist())}
    rows_of = (
        [
            [number[row + down, col + right] for right in (-1, 0, 1) if (row + down, col + right) in number]
            for down in (-1, 0, 1)
        ]
        for row, col in cells.tolist()
    )
    return [[row for row in rows if row] for rows in rows_of]
