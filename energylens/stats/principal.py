"""Directions on a plane: their principal components."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

_ROWS = 4096
"""Directions that are held in double precision at once."""
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Plane:
    """Where each of some directions lies on the plane that holds most of their variance."""

    places: Float[np.ndarray, "n 2"]
    shares: tuple[float, float]
    """Of the variance of all directions along the two axes; 0 for an axis there is not."""


def principal_plane(directions: Float[np.ndarray, "n d"]) -> Plane:
    """Principal components of directions of length 1.

    1. Each direction is divided by its norm; one without a length stays zero.
    2. Their covariance, a d x d matrix, is added up a block of directions at a time.
    3. Its two leading eigenvectors are the axes, the mean direction is the origin. Of each axis the
       entry that is largest in size is positive, so that equal weights give equal maps.
    """
    n, d = directions.shape
    total, products = np.zeros(d), np.zeros((d, d))
    for first in range(0, n, _ROWS):
        unit = _unit(directions[first : first + _ROWS])
        total += unit.sum(0)
        products += unit.T @ unit
    mean = total / n
    covariance = products / n - np.outer(mean, mean)
    n_axes = min(2, d)
    values, vectors = eigh(covariance, subset_by_index=(d - n_axes, d - 1))
    axes = np.zeros((d, 2))
    axes[:, :n_axes] = vectors[:, ::-1]
    largest = np.abs(axes).argmax(0)
    axes *= np.where(axes[largest, [0, 1]] < 0, -1.0, 1.0)
    whole = max(float(np.trace(covariance)), _SMALLEST)
    shares = [max(0.0, float(value)) / whole for value in values[::-1]] + [0.0]
    places = np.empty((n, 2))
    for first in range(0, n, _ROWS):
        part = slice(first, first + _ROWS)
        places[part] = (_unit(directions[part]) - mean) @ axes
    return Plane(places, (shares[0], shares[1]))


def _unit(directions: np.ndarray) -> np.ndarray:
    part = directions.astype(np.float64)
    return part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), _SMALLEST)
