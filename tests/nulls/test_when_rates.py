"""Intervals of a condition's precision and recall hold what they are of, texts being the unit."""

import numpy as np

from energylens.ingest.on_request.conditions import rate_of


def drawn(
    generator: np.random.Generator, n_texts: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of texts of unlike length, one in seven of the kind: whether a condition takes each,
    at a rate of the text's own, whether it is of the kind, and its text."""
    is_own = generator.integers(0, 7, n_texts) == 0
    size = np.clip(generator.lognormal(4, 0.7, n_texts).astype(int), 5, 400)
    rate = np.where(is_own, generator.beta(3, 1.2, n_texts), generator.beta(0.3, 6, n_texts))
    text = np.repeat(np.arange(n_texts), size)
    return generator.random(len(text)) < rate[text], is_own[text], text


def test_intervals_of_precision_and_recall_miss_seldom() -> None:
    generator = np.random.default_rng(0)
    held, is_own, _ = drawn(generator, 100_000)
    both = (held & is_own).sum()
    precision, recall = both / held.sum(), both / is_own.sum()
    missed = np.zeros(2)
    for _ in range(200):
        found = rate_of("kind", *drawn(generator, 400))
        assert found.precision_low is not None and found.precision_high is not None
        assert found.recall_low is not None and found.recall_high is not None
        missed += (
            not found.precision_low <= precision <= found.precision_high,
            not found.recall_low <= recall <= found.recall_high,
        )
    assert (missed <= 20).all() and missed.sum() > 4, f"{missed} of 200, about 10 each"


def test_with_few_texts_there_is_no_interval() -> None:
    found = rate_of("kind", *drawn(np.random.default_rng(0), 60))
    assert found.recall is not None and found.recall_low is None and found.recall_high is None
