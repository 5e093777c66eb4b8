"""How much of what reaches the ends of a graph of links goes through each of its nodes.

A link's share is the part of its target's input that it is, by absolute weight. From the ends,
shares are followed backwards over paths of every length (Ameisen et al., 2025, Circuit Tracing;
circuit-tracer's `compute_node_influence`).
"""

import numpy as np
from jaxtyping import Float, Int

_LONGEST = 1000
"""Links on a path. Graphs of models have some for each layer."""
_NOTHING = 1e-12


def link_shares(
    target: Int[np.ndarray, " links"], weight: Float[np.ndarray, " links"], n_nodes: int
) -> Float[np.ndarray, " links"]:
    """|weight| over the sum of all links to the same target; 0 where all of them are 0."""
    size = np.abs(weight)
    total = np.bincount(target, size, n_nodes)
    return np.divide(size, total[target], out=np.zeros_like(size), where=total[target] > 0)


def node_shares(
    source: Int[np.ndarray, " links"],
    target: Int[np.ndarray, " links"],
    share: Float[np.ndarray, " links"],
    ends: Float[np.ndarray, " nodes"],
) -> Float[np.ndarray, " nodes"] | None:
    """What of the ends comes through each node, the ends themselves counted in; None where links
    run in circles that let nothing out, so that paths do not end."""
    now, total = ends, ends.copy()
    for _ in range(_LONGEST):
        now = np.bincount(source, now[target] * share, len(ends))
        if now.max(initial=0.0) <= _NOTHING:
            return total
        total += now
    return None
