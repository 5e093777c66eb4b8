"""A panel of gradients: windows by positions, with both means taken off exactly.

Windows differ in length and tokens are masked, so the panel is unbalanced and taking off the means
of windows and then of positions would leave some of either. The two sets of effects are solved for
together, by least squares.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_ROWS = 2048
"""Windows worked on at once."""

Blocks = Callable[[], Iterable[np.ndarray]]
"""Gives the rows of a matrix, a block of them at a time, as often as it is asked to."""


@dataclass(frozen=True)
class TwoWay:
    """Effects of windows and positions; a value's residual is what is left of it after both."""

    window: Float[np.ndarray, "n_windows d"]
    position: Float[np.ndarray, "n_positions d"]


def two_way(
    window: Int[np.ndarray, " n"],
    position: Int[np.ndarray, " n"],
    window_sums: Float[np.ndarray, "n_windows d"],
    position_sums: Float[np.ndarray, "n_positions d"],
) -> TwoWay:
    """Least-squares effects of windows and positions on d values of n tokens, from sums alone.

    Tokens come in the order of their windows. Windows and positions without a token get zero.
    """

    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, len(window_sums), _ROWS):
            yield window_sums[first : first + _ROWS]

    by_position = position_effects(window, position, blocks, position_sums)
    found = list(window_effects(window, position, blocks, by_position))
    return TwoWay(np.concatenate(found) if found else window_sums, by_position)


def position_effects(
    window: Int[np.ndarray, " n"],
    position: Int[np.ndarray, " n"],
    window_sums: Blocks,
    position_sums: Float[np.ndarray, "n_positions d"],
) -> Float[np.ndarray, "n_positions d"]:
    """The effects of positions; the sums of the windows come a block at a time."""
    n_positions = len(position_sums)
    normal = np.diag(np.bincount(position, minlength=n_positions).astype(np.float64))
    right = np.array(position_sums, dtype=np.float64)
    for sums, counts in _with_counts(window, position, window_sums, n_positions):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        normal -= counts.T @ share
        right -= share.T @ sums
    return np.linalg.pinv(normal, hermitian=True, rcond=1e-10) @ right


def window_effects(
    window: Int[np.ndarray, " n"],
    position: Int[np.ndarray, " n"],
    window_sums: Blocks,
    by_position: Float[np.ndarray, "n_positions d"],
) -> Iterator[Float[np.ndarray, "m d"]]:
    """The effects of the windows of each block, given those of positions."""
    for sums, counts in _with_counts(window, position, window_sums, len(by_position)):
        yield (sums - counts @ by_position) / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)


def _with_counts(
    window: np.ndarray, position: np.ndarray, window_sums: Blocks, n_positions: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each block with the tokens of its windows at each position."""
    first = 0
    for sums in window_sums():
        m = len(sums)
        low, high = np.searchsorted(window, [first, first + m])
        place = (window[low:high].astype(np.int64) - first) * n_positions + position[low:high]
        counts = np.bincount(place, minlength=m * n_positions).reshape(m, n_positions)
        yield sums, counts.astype(np.float64)
        first += m
