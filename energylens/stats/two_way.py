"""A panel of gradients: windows by positions, with both means taken off exactly.

Windows differ in length and tokens are masked, so the panel is unbalanced and taking off the means
of windows and then of positions would leave some of either. The two sets of effects are solved for
together, by least squares.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse


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

    Windows and positions without a token get zero.
    """
    shape = (len(window_sums), len(position_sums))
    ones = np.ones(len(window))
    incidence = sparse.csr_matrix((ones, (window, position)), shape=shape)
    n_window = np.asarray(incidence.sum(axis=1)).ravel()
    n_position = np.asarray(incidence.sum(axis=0)).ravel()
    share = sparse.diags(1.0 / np.maximum(n_window, 1.0)) @ incidence
    normal = np.diag(n_position) - (incidence.T @ share).toarray()
    right = position_sums - share.T @ window_sums
    by_position = np.linalg.pinv(normal, hermitian=True, rcond=1e-10) @ right
    means = window_sums / np.maximum(n_window, 1.0)[:, None]
    return TwoWay(means - share @ by_position, by_position)
