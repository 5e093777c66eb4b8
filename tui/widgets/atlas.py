"""Places of features on a grid of cells: what lies in a window of it, and what is nearest whither.

A cell has two by four dots; all numbers of cells and dots are whole, so that a window that moves
shows the same cells elsewhere.
"""

from dataclasses import dataclass

import numpy as np

DEEPEST = 18
"""How often the whole map can be doubled in width and height."""
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)
"""Of each dot of a braille cell, by row and column."""
_TALL = 2
"""A cell is so many times as high as it is wide."""


@dataclass(frozen=True)
class Window:
    """What is seen: cells from `left` and `top` on."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Cells:
    """What lies in a window, by line and column."""

    dots: np.ndarray
    """Bits of braille."""
    counts: np.ndarray
    """How many features."""
    first: np.ndarray
    """The one that stands for the cell; -1 in an empty one."""
    is_marked: np.ndarray


class Atlas:
    """Features are known by their place in the arrays that are given; the most active comes
    first."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self._across, self._down = _shares(x), 1.0 - _shares(y)
        self.n = len(x)
        self.size, self.zoom = (1, 1), 0
        self.spread(1, 1, 0)

    def spread(self, width: int, height: int, zoom: int) -> None:
        """Lay the whole map out over so many cells, doubled `zoom` times."""
        self.size, self.zoom = (width << zoom, height << zoom), zoom
        across, down = (
            np.minimum(share * n, n - 1).astype(np.int32)
            for share, n in ((self._across, 2 * self.size[0]), (self._down, 4 * self.size[1]))
        )
        self._dots = _BITS[down & 3, across & 1]
        self.column, self.row = across >> 1, down >> 2

    def window(self, width: int, height: int, at: int, before: Window | None) -> Window:
        """The window of a size that shows a feature: `before` where it does so well within its
        edges, else with the feature in its middle."""
        column, row = int(self.column[at]), int(self.row[at])
        if before is not None and (before.width, before.height) == (width, height):
            left = _scrolled(before.left, column, width)
            top = _scrolled(before.top, row, height)
        else:
            left, top = column - width // 2, row - height // 2
        return Window(
            max(0, min(left, self.size[0] - width)),
            max(0, min(top, self.size[1] - height)),
            width,
            height,
        )

    def cells(
        self, window: Window, is_shown: np.ndarray, is_marked: np.ndarray, order: np.ndarray
    ) -> Cells:
        """What lies in a window; the last one in `order` stands for its cell."""
        across, down = self.column - window.left, self.row - window.top
        inside = (across >= 0) & (across < window.width) & (down >= 0) & (down < window.height)
        inside &= is_shown
        ordered = order[inside[order]]
        cell = down[ordered] * window.width + across[ordered]
        n = window.width * window.height
        dots, first = np.zeros(n, dtype=np.uint8), np.full(n, -1, dtype=np.int32)
        marked, own = np.zeros(n, dtype=np.bool_), self._dots[ordered]
        for bit in _BITS.ravel():
            dots[cell[own == bit]] |= bit
        first[cell] = ordered
        marked[cell[is_marked[ordered]]] = True
        shape = (window.height, window.width)
        counts = np.bincount(cell, minlength=n)
        return Cells(*(part.reshape(shape) for part in (dots, counts, first, marked)))

    def here(self, at: int, is_shown: np.ndarray) -> np.ndarray:
        """The features in the cell of one."""
        same = (self.column == self.column[at]) & (self.row == self.row[at]) & is_shown
        return np.flatnonzero(same)

    def nearest(self, column: int, row: int, is_shown: np.ndarray) -> int:
        """The feature nearest to a cell."""
        right, below = self.column - column, (self.row - row) * _TALL
        far = right.astype(np.float64) ** 2 + below.astype(np.float64) ** 2
        return int(np.where(is_shown, far, np.inf).argmin())

    def towards(self, at: int, across: int, down: int, is_shown: np.ndarray) -> int | None:
        """The nearest feature in another cell in a direction: within 45 degrees of it where there
        is one, else anywhere on that side; None where there is none."""
        right = self.column - self.column[at]
        below = (self.row - self.row[at]) * _TALL
        ahead, aside = (right * across, below) if across else (below * down, right)
        aside = np.abs(aside)
        before = is_shown & (ahead > 0)
        near = before & (aside <= ahead)
        listed = np.flatnonzero(near if near.any() else before)
        if not len(listed):
            return None
        far = ahead[listed].astype(np.float64) ** 2 + aside[listed].astype(np.float64) ** 2
        return int(listed[far.argmin()])


def _shares(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1; the middle where all are alike."""
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    if not high > low:
        return np.full(len(values), 0.5)
    return (values.astype(np.float64) - low) / (high - low)


def _scrolled(first: int, at: int, length: int) -> int:
    """Where a window of a length begins that holds a place a little within its edges."""
    edge = min(length // 6, (length - 1) // 2)
    return min(max(first, at - length + 1 + edge), at - edge)
