"""Which features are active together: counts, and what they say beside the features' own rates.

Jaccard is what two features share of all that either is on, and dense features win it. Lift and PMI
compare with independence, and rare features win them. Phi, the correlation of the two indicators,
lies between; partners are ranked by it.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

CLUSTER_PHI = 0.5
"""Features joined in a cluster have at least this phi with one of its members."""


def phi(
    n_both: Float[np.ndarray, " *m"],
    n_a: Float[np.ndarray, " *#m"],
    n_b: Float[np.ndarray, " *#m"],
    n: int,
) -> Float[np.ndarray, " *m"]:
    """Correlation of two indicators from their counts; NaN where one is constant."""
    spread_a, spread_b = (np.sqrt(x * (n - x)) for x in (n_a, n_b))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = n_both * n
        found -= n_a * n_b
        found /= np.where(spread_a > 0, spread_a, np.nan)
        found /= np.where(spread_b > 0, spread_b, np.nan)
    return found


def phi_within(
    n_both: Float[np.ndarray, "m F"],
    expected: Float[np.ndarray, "m F"],
    spread_a: Float[np.ndarray, " m"],
    spread_b: Float[np.ndarray, " F"],
) -> Float[np.ndarray, "m F"]:
    """Correlation of two indicators with the means of strata off; NaN where one is constant
    within them all. `expected` and the spreads are those of `text_overlap`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = n_both - expected
        found /= np.sqrt(np.where(spread_a > 1e-9, spread_a, np.nan))[:, None]
        found /= np.sqrt(np.where(spread_b > 1e-9, spread_b, np.nan))
    return found


def top_by_row(
    values: Float[np.ndarray, "a b"], k: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Row, rank and column of the k largest values of each row, NaN never; ties by column."""
    filled = np.where(np.isnan(values), -np.inf, values)
    k = min(k, filled.shape[1])
    chosen = np.argpartition(-filled, k - 1, axis=1)[:, :k]
    chosen.sort(axis=1)
    own = np.take_along_axis(filled, chosen, axis=1)
    order = np.argsort(-own, axis=1, kind="stable")
    chosen, own = (np.take_along_axis(x, order, axis=1) for x in (chosen, own))
    row, rank = np.nonzero(own > -np.inf)
    return row, rank, chosen[row, rank]


def clusters(
    a: Int[np.ndarray, " m"],
    b: Int[np.ndarray, " m"],
    phi: Float[np.ndarray, " m"],
    is_dense: Bool[np.ndarray, " F"],
) -> Int[np.ndarray, " F"]:
    """The cluster of each feature, 0 the largest; -1 for one that stands alone.

    Clusters are what edges of phi at least CLUSTER_PHI hold together; dense features join none.
    """
    n = len(is_dense)
    kept = (phi >= CLUSTER_PHI) & ~is_dense[a] & ~is_dense[b]
    graph = sparse.csr_matrix((np.ones(kept.sum()), (a[kept], b[kept])), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    size = np.bincount(label)
    first = np.full(len(size), n)
    np.minimum.at(first, label, np.arange(n))
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return np.where(size[label] > 1, rank[label], -1)
