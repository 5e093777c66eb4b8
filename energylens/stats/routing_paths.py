"""Routing circuits: paths of first choices that tokens take from layer to layer.

Each path is held against independence of its layers (lift), against its own pairs (markov lift),
and against layers that know nothing of each other but the token: routing is lexical, and two layers
that look at the token alone would agree without any path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from energylens.stats.clusters import MIN_TEXTS

MIN_TOKENS, MIN_IN_TEXTS, MIN_VOCAB = 50, 5, 3
"""What a path needs to be reported: tokens on it, texts they stand in, different tokens."""


@dataclass(frozen=True)
class Walks:
    """N tokens over L layers; tokens come text by text."""

    choices: Int[np.ndarray, "n n_layers"]
    """First choice at each layer."""
    text: Int[np.ndarray, " n"]
    vocab_id: Int[np.ndarray, " n"]
    energy_drop: Float[np.ndarray, "n n_layers"]
    """Lens energy before the block less after it, nats; NaN where not computed."""

    @cached_property
    def vocab_rank(self) -> Int[np.ndarray, " n"]:
        """Vocabulary ids by their places among those that occur."""
        return np.unique(self.vocab_id, return_inverse=True)[1]

    @cached_property
    def text_rank(self) -> Int[np.ndarray, " n"]:
        """The same of texts."""
        return np.unique(self.text, return_inverse=True)[1]


@dataclass(frozen=True)
class Circuit:
    """One path over consecutive layers."""

    first_layer: int
    """Index of its first layer among the router's layers."""
    choices: tuple[int, ...]
    n_tokens: int
    n_texts: int
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
    """Its standard error, clustered by text."""
    expected: float
    """Tokens there would be if layers knew nothing of each other but the token."""
    t: float
    """n_tokens less expected over its error, clustered by text; NaN where fewer than MIN_TOKENS are
    expected: to test what is frequent would be to test what chance made frequent."""
    p: float
    rows: tuple[int, ...]
    """A few of its tokens, spread over texts."""


def find_circuits(walks: Walks, length: int, most: int) -> Iterator[Circuit]:
    """Paths of `length` layers from every first layer: of those most expected and of those most
    frequent, `most` each."""
    n_layers = walks.choices.shape[1]
    for first in range(n_layers - length + 1):
        part = walks.choices[:, first : first + length].astype(np.int64)
        radix = int(part.max(initial=0)) + 1
        code = _encode(part, radix)
        codes, counts = np.unique(code, return_counts=True)
        chosen = np.argsort(-counts, kind="stable")[:most]
        frequent = [int(codes[c]) for c in chosen if counts[c] >= MIN_TOKENS]
        rates = [_rates(column, walks.vocab_rank, radix) for column in part.T]
        expected = _expected(rates, walks.vocab_rank, radix, most)
        drop = walks.energy_drop[:, first : first + length].sum(axis=1)
        for number in dict.fromkeys((*expected, *frequent)):
            rows = np.flatnonzero(code == number)
            if number in expected or _is_broad(walks, rows):
                path = [number // radix**i % radix for i in range(length)][::-1]
                yield _circuit(walks, part, first, path, rows, rates, drop)


def _rates(
    choice: Int[np.ndarray, " n"], rank: Int[np.ndarray, " n"], radix: int
) -> Float[np.ndarray, "n_vocab radix"]:
    """Share of the tokens of each vocabulary id that take each choice, ids from the smallest."""
    counts = np.bincount(rank * radix + choice, minlength=(int(rank.max()) + 1) * radix)
    counts = counts.reshape(-1, radix)
    return counts / counts.sum(axis=1, keepdims=True)


def _expected(
    rates: list[Float[np.ndarray, "n_vocab radix"]],
    rank: Int[np.ndarray, " n"],
    radix: int,
    most: int,
) -> dict[int, float]:
    """Codes of the paths with at least MIN_TOKENS expected, the most expected first. A path is
    never expected more often than its beginning, so the search goes layer by layer."""
    codes, weights = np.arange(radix), np.bincount(rank)[:, None] * rates[0]
    for layer in rates[1:]:
        n = weights.T @ layer
        before, choice = np.nonzero(n >= MIN_TOKENS)
        kept = np.argsort(-n[before, choice], kind="stable")[: 8 * most]
        before, choice = before[kept], choice[kept]
        codes = codes[before] * radix + choice
        weights = weights[:, before] * layer[:, choice]
    return {int(c): float(w) for c, w in zip(codes[:most], weights.sum(axis=0)[:most], strict=True)}


def _encode(part: Int[np.ndarray, "n length"], radix: int) -> Int[np.ndarray, " n"]:
    code = np.zeros(len(part), dtype=np.int64)
    for column in part.T:
        code = code * radix + column
    return code


def _is_broad(walks: Walks, rows: Int[np.ndarray, " m"]) -> bool:
    return (
        len(np.unique(walks.text[rows])) >= MIN_IN_TEXTS
        and len(np.unique(walks.vocab_id[rows])) >= MIN_VOCAB
    )


def _against_the_token(
    walks: Walks,
    part: Int[np.ndarray, "n length"],
    path: list[int],
    rates: list[Float[np.ndarray, "n_vocab radix"]],
) -> tuple[float, float, float]:
    """Tokens expected if layers knew nothing of each other but the token, t of the excess, p.

    A token's part in the excess is what it adds to it beyond what it adds to the rates it is
    measured by (the influence function), summed over the text.
    """
    of_token = (layer[walks.vocab_rank, c] for layer, c in zip(rates, path, strict=True))
    p = np.stack(list(of_token), axis=1)
    on = part == np.array(path)
    product = p.prod(axis=1)
    excess = on.all(axis=1) - product
    for i in range(len(path)):
        excess -= (on[:, i] - p[:, i]) * np.delete(p, i, axis=1).prod(axis=1)
    expected = float(product.sum())
    by_text = np.bincount(walks.text_rank, excess)
    error = float(np.sqrt(np.square(by_text).sum()))
    if expected < MIN_TOKENS or len(by_text) < MIN_TEXTS or error <= 0:
        return expected, np.nan, np.nan
    t = float(by_text.sum()) / error
    return expected, t, float(2 * stats.t.sf(abs(t), len(by_text) - 1))


def _circuit(
    walks: Walks,
    part: Int[np.ndarray, "n length"],
    first: int,
    path: list[int],
    rows: Int[np.ndarray, " m"],
    rates: list[Float[np.ndarray, "n_vocab radix"]],
    drop: Float[np.ndarray, " n"],
) -> Circuit:
    n, m, length = len(part), len(rows), part.shape[1]
    singles = np.array([(part[:, i] == path[i]).sum() for i in range(length)], dtype=np.float64)
    pairs = np.array(
        [
            ((part[:, i] == path[i]) & (part[:, i + 1] == path[i + 1])).sum()
            for i in range(length - 1)
        ],
        dtype=np.float64,
    )
    expected, t, p = _against_the_token(walks, part, path, rates)
    middle, error = _excess(drop, rows, walks.text)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(m / n) - np.log(singles / n).sum()
        markov = np.exp(np.log(m) + np.log(singles[1:-1]).sum() - np.log(pairs).sum())
    return Circuit(
        first_layer=first,
        choices=tuple(path),
        n_tokens=m,
        n_texts=len(np.unique(walks.text[rows])),
        n_vocab=len(np.unique(walks.vocab_id[rows])),
        support=m / n,
        lift=float(np.exp(pmi)),
        pmi=float(pmi) if m else np.nan,
        npmi=float(pmi / -np.log(m / n)) if 0 < m < n else np.nan,
        markov_lift=float(markov) if pairs.all() else np.nan,
        energy_drop=middle,
        energy_drop_error=error,
        expected=expected,
        t=t,
        p=p,
        rows=tuple(int(r) for r in rows[np.linspace(0, m - 1, min(m, 5)).astype(int)]),
    )


def _excess(
    drop: Float[np.ndarray, " n"], rows: Int[np.ndarray, " m"], text: Int[np.ndarray, " n"]
) -> tuple[float, float]:
    """Mean drop of some tokens less that of all, with its clustered standard error; tokens without
    a next one have none."""
    known = rows[np.isfinite(drop[rows])]
    if not len(known):
        return np.nan, np.nan
    excess = drop[known] - np.nanmean(drop)
    by_text = np.bincount(text[known], excess - excess.mean())
    error = float(np.sqrt(np.square(by_text).sum()) / len(known))
    return float(excess.mean()), error if np.count_nonzero(by_text) >= MIN_TEXTS else np.nan
