"""What goes through the nodes of a graph, beside the inverse of a matrix and paths by hand."""

import numpy as np

from energylens.stats.influence import link_shares, node_shares


def chance(n: int, n_links: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links from lower to higher numbers."""
    draw = np.random.default_rng(seed)
    below = np.stack(np.triu_indices(n, 1))
    source, target = below[:, draw.choice(below.shape[1], n_links, replace=False)]
    return source, target, draw.normal(size=n_links)


def test_shares_of_links_are_parts_of_what_comes_in() -> None:
    target = np.array([2, 2, 3, 4])
    found = link_shares(target, np.array([1.0, -3.0, 0.5, 0.0]), 5)
    assert found.tolist() == [0.25, 0.75, 1.0, 0.0]
    assert link_shares(np.array([], int), np.array([]), 3).tolist() == []


def test_shares_of_nodes_are_those_of_the_inverse() -> None:
    for seed in range(5):
        n, ends = 30, np.zeros(30)
        ends[-3:] = [0.5, 0.3, 0.2]
        source, target, weight = chance(n, 150, seed)
        matrix = np.zeros((n, n))
        matrix[target, source] = np.abs(weight)
        total = matrix.sum(1, keepdims=True)
        matrix = np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)
        expected = ends @ np.linalg.inv(np.eye(n) - matrix)
        found = node_shares(source, target, link_shares(target, weight, n), ends)
        assert found is not None
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_what_begins_a_graph_has_all_of_what_ends_it() -> None:
    source, target, weight = chance(40, 300, 9)
    ends = np.zeros(40)
    ends[-1] = 1.0
    found = node_shares(source, target, link_shares(target, weight, 40), ends)
    assert found is not None
    begins = np.setdiff1d(np.arange(40), target)
    assert np.isclose(found[begins].sum(), 1.0)


def test_circles_have_no_shares() -> None:
    source, target = np.array([0, 1]), np.array([1, 0])
    assert node_shares(source, target, np.ones(2), np.array([0.0, 1.0])) is None
    leaky = node_shares(source, target, np.array([0.5, 0.5]), np.array([0.0, 1.0]))
    assert leaky is not None and np.allclose(leaky, [2 / 3, 4 / 3])
