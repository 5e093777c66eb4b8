"""Routing circuits: paths of first choices that tokens take from layer to layer.

Each path is held against independence of its layers (lift), against its own pairs (markov lift),
and against layers shuffled among tokens of the same vocabulary id: routing is lexical, and two
layers that look at the token alone would agree without any path.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from energylens.stats.information import shuffled_groups

MIN_TOKENS, MIN_WINDOWS, MIN_VOCAB = 50, 5, 3
"""What a path needs to be reported: tokens on it, windows they stand in, different tokens."""


@dataclass(frozen=True)
class Walks:
    """N tokens over L layers; tokens come window by window."""

    choices: Int[np.ndarray, "n n_layers"]
    """First choice at each layer."""
    window: Int[np.ndarray, " n"]
    vocab_id: Int[np.ndarray, " n"]
    energy_drop: Float[np.ndarray, "n n_layers"]
    """Lens energy before the block less after it, nats; NaN where not computed."""


@dataclass(frozen=True)
class Circuit:
    """One path over consecutive layers."""

    first_layer: int
    """Index of its first layer among the router's layers."""
    choices: tuple[int, ...]
    n_tokens: int
    n_windows: int
    n_vocab: int
    support: float
    """Share of all tokens."""
    lift: float
    pmi: float
    """ln of lift, nats."""
    npmi: float
    """pmi over -ln support: 1 where the choices only come together."""
    markov_lift: float
    """n over what its pairs alone would give: above 1 is structure beyond pairs; 1 for a pair."""
    energy_drop: float
    """Mean drop over its layers less that of all tokens, nats; NaN where not computed."""
    energy_drop_error: float
    """Its standard error, clustered by window."""
    expected: float
    """Mean tokens under shuffling within vocabulary ids."""
    z: float
    p: float
    """Two-sided, from z."""
    rows: tuple[int, ...]
    """A few of its tokens, spread over windows."""


def find_circuits(walks: Walks, length: int, n_shuffles: int, most: int) -> Iterator[Circuit]:
    """Paths of `length` layers from every first layer, the most frequent first."""
    n_layers = walks.choices.shape[1]
    for first in range(n_layers - length + 1):
        part = walks.choices[:, first : first + length].astype(np.int64)
        radix = int(part.max(initial=0)) + 1
        code = _encode(part, radix)
        codes, index, counts = np.unique(code, return_inverse=True, return_counts=True)
        chosen = np.argsort(-counts, kind="stable")[:most]
        kept = [c for c in chosen if counts[c] >= MIN_TOKENS]
        expected, spread = _shuffled(part, walks.vocab_id, radix, codes[kept], n_shuffles)
        drop = walks.energy_drop[:, first : first + length].sum(axis=1)
        for place, number in enumerate(kept):
            rows = np.flatnonzero(index == number)
            if not _is_broad(walks, rows):
                continue
            yield _circuit(walks, part, first, rows, drop, expected[place], spread[place])


def _encode(part: Int[np.ndarray, "n length"], radix: int) -> Int[np.ndarray, " n"]:
    code = np.zeros(len(part), dtype=np.int64)
    for column in part.T:
        code = code * radix + column
    return code


def _is_broad(walks: Walks, rows: Int[np.ndarray, " m"]) -> bool:
    return (
        len(np.unique(walks.window[rows])) >= MIN_WINDOWS
        and len(np.unique(walks.vocab_id[rows])) >= MIN_VOCAB
    )


def _shuffled(
    part: Int[np.ndarray, "n length"],
    vocab_id: Int[np.ndarray, " n"],
    radix: int,
    codes: Int[np.ndarray, " m"],
    n_shuffles: int,
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Mean and deviation of each path's tokens when every layer is shuffled on its own."""
    generator = np.random.default_rng(0)
    draws = [shuffled_groups(column, vocab_id) for column in part.T]
    order = np.argsort(codes)
    counts = np.zeros((n_shuffles, len(codes)))
    for number in range(n_shuffles):
        drawn = np.stack([part[:, 0], *(draw(generator) for draw in draws[1:])], axis=1)
        found, n = np.unique(_encode(drawn, radix), return_counts=True)
        place = np.searchsorted(codes[order], found)
        place[place == len(codes)] = 0
        hit = codes[order][place] == found if len(codes) else np.zeros(len(found), bool)
        counts[number, order[place[hit]]] = n[hit]
    return counts.mean(axis=0), counts.std(axis=0, ddof=1)


def _circuit(
    walks: Walks,
    part: Int[np.ndarray, "n length"],
    first: int,
    rows: Int[np.ndarray, " m"],
    drop: Float[np.ndarray, " n"],
    expected: float,
    spread: float,
) -> Circuit:
    n, m, length = len(part), len(rows), part.shape[1]
    path = part[rows[0]]
    singles = np.array([(part[:, i] == path[i]).sum() for i in range(length)], dtype=np.float64)
    pairs = np.array(
        [
            ((part[:, i] == path[i]) & (part[:, i + 1] == path[i + 1])).sum()
            for i in range(length - 1)
        ],
        dtype=np.float64,
    )
    pmi = np.log(m / n) - np.log(singles / n).sum()
    z = (m - expected) / spread if spread > 0 else np.nan
    middle, error = _excess(drop, rows, walks.window)
    return Circuit(
        first_layer=first,
        choices=tuple(int(c) for c in path),
        n_tokens=m,
        n_windows=len(np.unique(walks.window[rows])),
        n_vocab=len(np.unique(walks.vocab_id[rows])),
        support=m / n,
        lift=float(np.exp(pmi)),
        pmi=float(pmi),
        npmi=float(pmi / -np.log(m / n)) if m < n else np.nan,
        markov_lift=float(np.exp(np.log(m) + np.log(singles[1:-1]).sum() - np.log(pairs).sum())),
        energy_drop=middle,
        energy_drop_error=error,
        expected=float(expected),
        z=float(z),
        p=float(2 * stats.norm.sf(abs(z))),
        rows=tuple(int(r) for r in rows[np.linspace(0, m - 1, min(m, 5)).astype(int)]),
    )


def _excess(
    drop: Float[np.ndarray, " n"], rows: Int[np.ndarray, " m"], window: Int[np.ndarray, " n"]
) -> tuple[float, float]:
    """Mean drop of some tokens less that of all, with its clustered standard error; tokens without
    a next one have none."""
    known = rows[np.isfinite(drop[rows])]
    if not len(known):
        return np.nan, np.nan
    excess = drop[known] - np.nanmean(drop)
    by_window = np.bincount(window[known], excess)
    return float(excess.mean()), float(np.sqrt(np.square(by_window).sum()) / len(known))
