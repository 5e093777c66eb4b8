"""Features of one SAE held against those of another over the same tokens, by activation."""

from collections.abc import Callable, Iterator

import numpy as np

from energylens.queries.matrices import Codes, add_product, blocks, chunks, slabs
from energylens.stats.coactivation import top_by_row

MATCHES = 3
"""Features kept of the other SAE for each feature."""


def match(
    one: Codes, other: Codes, cosines: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
) -> Iterator[dict[str, np.ndarray]]:
    """For each feature of `one`, the features of `other` whose activations correlate most with
    it over the same tokens."""
    n = len(one.token_index)
    l0 = one.l0 + other.l0
    mean, std = _moments(one)
    other_mean, other_std = _moments(other)
    for first, end in blocks(one.d_sae, other.d_sae, 8):
        dots = np.zeros((end - first, other.d_sae))
        for low, high in chunks(n, l0):
            add_product(dots, one.chunk(low, high)[:, first:end], other.chunk(low, high))
        for slab in slabs(end - first):
            own = np.arange(first, end)[slab]
            with np.errstate(divide="ignore", invalid="ignore"):
                covariance = dots[slab] / n - mean[own, None] * other_mean[None]
                r = covariance / (std[own, None] * other_std[None])
            r[~np.isfinite(r)] = np.nan
            row, rank, column = top_by_row(r, MATCHES)
            a = own[row]
            yield {
                "feature_id": a,
                "rank": rank,
                "other_feature_id": column,
                "correlation": r[row, column],
                "cosine": np.full(len(a), np.nan) if cosines is None else cosines(a, column),
            }


def _moments(codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    n = max(len(codes.token_index), 1)
    total, square = np.zeros(codes.d_sae), np.zeros(codes.d_sae)
    for first, end in chunks(len(codes.token_index), codes.l0):
        z = codes.chunk(first, end)
        total += np.asarray(z.sum(axis=0)).ravel()
        square += np.asarray(z.multiply(z).sum(axis=0)).ravel()
    mean = total / n
    return mean, np.sqrt(np.maximum(square / n - mean**2, 0.0))
