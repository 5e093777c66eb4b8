"""One Benjamini-Hochberg for every list of p-values there is."""

import numpy as np
from jaxtyping import Float


def benjamini_hochberg(
    p: Float[np.ndarray, " m"], n_tests: int | None = None
) -> Float[np.ndarray, " m"]:
    """The q of each p: the smallest false discovery rate at which it is a discovery.

    p that are NaN are tests that could not be made: their q is NaN and they do not count. Where p
    are the smallest of `n_tests`, the selection pays for all of them.

    Source: Benjamini and Hochberg 1995, the step-up procedure.
    """
    q = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    m = len(order) if n_tests is None else n_tests
    scaled = p[order] * m / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q
