"""What several tests hold the program against, by plain formulas."""

import numpy as np
import polars as pl


def two_way_residual(values: np.ndarray, tokens: pl.DataFrame) -> np.ndarray:
    """What is left after dummies for every window and position, by plain least squares."""
    window, position = tokens["context_id"].to_numpy(), tokens["pos"].to_numpy()
    dummies = np.concatenate(
        [window[:, None] == np.unique(window), position[:, None] == np.unique(position)], axis=1
    ).astype(float)
    return values - dummies @ np.linalg.lstsq(dummies, values, rcond=None)[0]


def by_text(scores: np.ndarray, text: np.ndarray) -> np.ndarray:
    return np.stack([scores[text == j].sum(axis=0) for j in np.unique(text)])


def robust_t(scores: np.ndarray, text: np.ndarray) -> np.ndarray:
    sums = by_text(scores, text)
    with np.errstate(invalid="ignore"):
        return sums.sum(axis=0) / np.sqrt(np.square(sums).sum(axis=0))
