"""A matrix in a file, of which a block of rows is in memory at a time."""

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

_NUMBERS = 1 << 20
"""Numbers of a block."""


class Rows:
    """A matrix of float64 in a nameless file of a folder; it goes with the object."""

    def __init__(self, blocks: Iterable[np.ndarray], width: int, folder: Path) -> None:
        self.width, self._n = width, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        for block in blocks:
            self._file.write(np.ascontiguousarray(block, dtype=np.float64).data)
            self._n += len(block)

    def __len__(self) -> int:
        return self._n

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows, a block of them at a time."""
        step = max(1, _NUMBERS // max(self.width, 1))
        for first in range(0, self._n, step):
            n = min(step, self._n - first)
            self._file.seek(first * self.width * 8)
            found = np.frombuffer(self._file.read(n * self.width * 8), dtype=np.float64)
            yield found.reshape(n, self.width)

    def times(self, other: np.ndarray) -> np.ndarray:
        """`other` times the transpose: [m, rows] of [m, width]."""
        out, first = np.empty((len(other), self._n)), 0
        for block in self.blocks():
            out[:, first : first + len(block)] = other @ block.T
            first += len(block)
        return out
