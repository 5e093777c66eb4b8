"""Which features of an SAE go with which choice of each router."""

from dataclasses import dataclass

import duckdb
import numpy as np
from scipy import sparse, stats

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.ingest.index.routes import Routed, Tokens, columns_of, place_of
from energylens.queries.matrices import Codes, add_product, chunks, indicators
from energylens.stats.clusters import MIN_TEXTS
from energylens.stats.coactivation import phi, top_by_row
from energylens.stats.efas import MIN_TOKENS
from energylens.stats.multiple_tests import benjamini_hochberg

KEPT = 10
"""Features kept for each choice."""


@dataclass(frozen=True)
class _Pairs:
    """The features of each choice of one router with the highest phi."""

    one: Routed
    choice: np.ndarray
    rank: np.ndarray
    feature: np.ndarray
    n_both: np.ndarray
    n_choice: np.ndarray
    lift: np.ndarray
    phi: np.ndarray


def write_routing_features(
    con: duckdb.DuckDBPyConnection,
    writer: IndexWriter,
    run: RunInfo,
    sae: SaeInfo,
    tokens: Tokens,
    routed: list[Routed],
) -> None:
    """Write `routing_features` of one SAE."""
    codes = Codes(con, run.run_id, sae.sae_id, sae.d_sae, sae.l0 or 1.0, tokens.token_index)
    n_feature, both = _count(codes, routed)
    n_live = int((n_feature > 0).sum())
    with writer.table("routing_features", sae.sae_id) as out:
        for one, counts in zip(routed, both, strict=True):
            pairs = _best(one, counts, n_feature, len(tokens.token_index))
            t, p = _clustered_t(codes, tokens, pairs, n_feature)
            n = len(pairs.choice)
            q = benjamini_hochberg(p, max(n_live * one.p.shape[1], 1))
            columns = {
                "sae_id": [sae.sae_id] * n,
                **{name: [value] * n for name, value in place_of(one).items()},
                "choice_id": pairs.choice,
                "rank": pairs.rank,
                "feature_id": pairs.feature,
                "n_both": pairs.n_both,
                "n_feature": n_feature[pairs.feature],
                "n_choice": pairs.n_choice,
                "precision": pairs.n_both / n_feature[pairs.feature],
                "recall": pairs.n_both / pairs.n_choice,
                "lift": pairs.lift,
                "phi": pairs.phi,
                "t": t,
                "p": p,
                "q": q,
            }
            out.write(columns_of(run, columns))


def _count(codes: Codes, routed: list[Routed]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tokens of each feature, and [K, F] tokens of each choice and feature for each router."""
    n_feature = np.zeros(codes.d_sae)
    both = [np.zeros((one.p.shape[1], codes.d_sae)) for one in routed]
    for first, end in chunks(len(codes.token_index), codes.l0):
        on = indicators(codes.chunk(first, end))
        n_feature += np.asarray(on.sum(axis=0)).ravel()
        for one, counts in zip(routed, both, strict=True):
            choice = one.choices[first:end, 0]
            shape = (end - first, len(counts))
            chosen = sparse.csr_matrix(
                (np.ones(end - first), (np.arange(end - first), choice)), shape
            )
            add_product(counts, chosen, on)
    return n_feature, both


def _best(one: Routed, both: np.ndarray, n_feature: np.ndarray, n: int) -> _Pairs:
    n_choice = np.bincount(one.choices[:, 0], minlength=len(both)).astype(np.float64)
    found = phi(both, n_choice[:, None], n_feature[None], n)
    choice, rank, feature = top_by_row(np.where(both > 0, found, np.nan), KEPT)
    at, of_choice = (choice, feature), n_choice[choice]
    lift = both[at] * n / (of_choice * n_feature[feature])
    return _Pairs(one, choice, rank, feature, both[at], of_choice, lift, found[at])


def _clustered_t(
    codes: Codes, tokens: Tokens, pairs: _Pairs, n_feature: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """t and p of the two going together: the sum over texts of (active less its share of tokens)
    times (chosen less its share); NaN for a feature on too few tokens or in too few texts."""
    n, m, n_texts = len(tokens.token_index), len(pairs.choice), int(tokens.text.max()) + 1
    score, active = np.zeros((n_texts, m)), np.zeros((n_texts, m))
    share = pairs.n_choice / max(n, 1)
    for first, end in chunks(n, codes.l0):
        on = indicators(codes.chunk(first, end))[:, pairs.feature].tocoo()
        choice = pairs.one.choices[first:end, 0][on.row]
        excess = (choice == pairs.choice[on.col]) - share[on.col]
        place = (tokens.text[first:end][on.row], on.col)
        np.add.at(score, place, excess)
        np.add.at(active, place, 1.0)
    chosen = np.zeros((n_texts, pairs.one.p.shape[1]))
    np.add.at(chosen, (tokens.text, pairs.one.choices[:, 0]), 1.0)
    sizes = np.bincount(tokens.text, minlength=n_texts)[:, None]
    rate = n_feature[pairs.feature] / max(n, 1)
    score -= rate * (chosen[:, pairs.choice] - share * sizes)
    in_texts, square = (active > 0).sum(axis=0), np.square(score).sum(axis=0)
    enough = (n_feature[pairs.feature] >= MIN_TOKENS) & (in_texts >= MIN_TEXTS)
    tested = enough & (square > 1e-9)
    t = score.sum(axis=0) / np.sqrt(np.where(tested, square, np.nan))
    return t, 2 * stats.t.sf(np.abs(t), np.where(tested, in_texts - 1.0, np.nan))
