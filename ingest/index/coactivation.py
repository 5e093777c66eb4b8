"""Co-activation of a whole dictionary, exact: top partners of every feature, and clusters."""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from scipy import sparse
from scipy.sparse import csr_matrix

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.table import constants
from energylens.queries.matrices import Codes, add_product, blocks, chunks, indicators, slabs
from energylens.stats.coactivation import (
    clusters,
    phi,
    phi_within,
    top_by_row,
)
from energylens.stats.multiple_tests import benjamini_hochberg
from energylens.stats.text_overlap import (
    LEAST_TEXTS,
    Strata,
    expected_shared,
    p_shared,
    spread_within,
    strata_of,
    stratum_counts,
)

PARTNERS = 50
"""Partners kept for each feature and unit."""
UNITS = ("text", "token")
"""What features share: in the order of the table's key."""
_DENSE = 0.1

_Rows = dict[str, np.ndarray]


def write_coactivation(
    con: duckdb.DuckDBPyConnection,
    writer: IndexWriter,
    run: RunInfo,
    sae: SaeInfo,
    token_index: np.ndarray,
    texts: np.ndarray,
) -> None:
    """Write `coactivation` and `coactivation_clusters` of one SAE.

    `token_index` are the run's tokens that are not masked, text by text, `texts` the text of each,
    from 0.
    """
    codes = Codes(con, run.run_id, sae.sae_id, sae.d_sae, sae.l0 or 1.0, token_index)
    found = partners(codes, texts)
    with (
        writer.table("coactivation", sae.sae_id) as out,
        writer.table("coactivation_clusters", sae.sae_id) as grouped,
    ):
        for unit, columns in found.by_unit.items():
            out.write(_named(run, sae, unit, columns))
            grouped.write(_named(run, sae, unit, _clusters(columns, found.is_dense)))


@dataclass(frozen=True)
class Partners:
    """Top partners of all features."""

    by_unit: dict[str, _Rows]
    is_dense: np.ndarray


def partners(codes: Codes, texts: np.ndarray) -> Partners:
    """Top partners of all features, by texts and by tokens, with what chance would give."""
    counted = _Counted(codes, texts)
    rows: dict[str, list[_Rows]] = {unit: [] for unit in UNITS}
    for first, end in blocks(codes.d_sae, codes.d_sae, 12):
        for unit, found in counted.block(first, end):
            rows[unit].append(found)
    by_unit = {
        unit: {name: np.concatenate([r[name] for r in parts]) for name in parts[0]}
        for unit, parts in rows.items()
    }
    names = ("n_texts_both", "feature_id", "partner_id")
    pairs = (np.concatenate([by_unit[unit][name] for unit in UNITS]) for name in names)
    p = counted.p_shared(*pairs)
    n_live = int((counted.n_text > 0).sum())
    for columns, own in zip(
        by_unit.values(), np.split(p, [len(by_unit[UNITS[0]]["rank"])]), strict=True
    ):
        columns["p"] = own
        columns["q"] = benjamini_hochberg(own, max(n_live * (n_live - 1), 1))
    return Partners(by_unit, counted.is_dense)


class _Counted:
    """Products of the codes with themselves: a block of features, a chunk of tokens at a time."""

    def __init__(self, codes: Codes, texts: np.ndarray) -> None:
        self.codes, self.n_tokens, self._texts = codes, len(texts), texts
        self.n_texts = int(texts.max()) + 1 if len(texts) else 0
        self.n_token = np.zeros(codes.d_sae)
        self.norm = np.zeros(codes.d_sae)
        of_text = strata_of(np.bincount(texts, minlength=self.n_texts))
        sizes = np.bincount(of_text, minlength=1)
        counts = np.zeros((codes.d_sae, len(sizes)))
        for z, on, first, present in self._chunks():
            self.n_token += np.asarray(on.sum(axis=0)).ravel()
            self.norm += np.asarray(z.multiply(z).sum(axis=0)).ravel()
            own = of_text[first : first + len(present.indptr) - 1]
            counts += stratum_counts(own, len(sizes), present)
        self.n_text = counts.sum(axis=1)
        self.strata = Strata(of_text, sizes, counts)
        self.spread = spread_within(self.strata)
        self.is_dense = self.n_token > _DENSE * max(self.n_tokens, 1)

    def _chunks(self) -> Iterator[tuple[csr_matrix, csr_matrix, int, csr_matrix]]:
        """Codes of a chunk of tokens, one where there is one, and the texts that end in the chunk:
        the first of them, and [texts, features], one where a feature is active."""
        open_text = csr_matrix((0, self.codes.d_sae), dtype=np.float32)
        number = np.zeros(0, dtype=self._texts.dtype)
        for first, end in chunks(self.n_tokens, self.codes.l0):
            z = self.codes.chunk(first, end)
            on = indicators(z)
            own = np.concatenate([number, self._texts[first:end]])
            places = (own - own[0], np.arange(len(own)))
            pool = csr_matrix((np.ones(len(own), np.float32), places))
            present = indicators(csr_matrix(pool @ sparse.vstack([open_text, on], format="csr")))
            is_open = end < self.n_tokens  # the last text may go on in the next chunk
            n = int(own[-1] - own[0]) + 1 - is_open
            open_text, number = present[n:], own[-1:][:is_open]
            yield z, on, int(own[0]), present[:n]

    def block(self, first: int, end: int) -> Iterator[tuple[str, _Rows]]:
        """Top partners of features first to end, by texts and by tokens."""
        shape = (end - first, self.codes.d_sae)
        tokens, dots, texts = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        for z, on, _, present in self._chunks():
            z = csr_matrix(z, dtype=np.float32)
            add_product(tokens, on[:, first:end], on)
            add_product(dots, z[:, first:end], z)
            add_product(texts, present[:, first:end], present)
        for slab in slabs(end - first):
            low = first + slab.start
            n_texts, n_tokens, products = (
                x[slab].astype(np.float64) for x in (texts, tokens, dots)
            )
            expected = expected_shared(self.strata, low, first + slab.stop)
            part = (low, n_texts, n_tokens, products, expected)
            yield "text", self._partners(*part, by_text=True)
            yield "token", self._partners(*part, by_text=False)

    def p_shared(self, n_both: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """p of sharing that many texts; NaN where texts are too few to tell lengths apart."""
        if self.n_texts < LEAST_TEXTS:
            return np.full(len(a), np.nan)
        return p_shared(n_both, a, b, self.strata)

    def _partners(
        self,
        first: int,
        texts: np.ndarray,
        tokens: np.ndarray,
        dots: np.ndarray,
        expected: np.ndarray,
        by_text: bool,
    ) -> _Rows:
        """Top partners of some features, from the counts of all pairs with them."""
        counts = texts if by_text else tokens
        n_of = self.n_text if by_text else self.n_token
        n = self.n_texts if by_text else self.n_tokens
        own = np.arange(len(counts))
        if by_text:
            values = phi_within(counts, expected, self.spread[first + own], self.spread)
        else:
            values = phi(counts, n_of[first + own][:, None], n_of[None], n)
        values[counts == 0] = np.nan
        values[own, first + own] = np.nan
        row, rank, partner = top_by_row(values, PARTNERS)
        a, n_both = row + first, counts[row, partner]
        by_chance = expected[row, partner] if by_text else n_of[a] * n_of[partner] / max(n, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            lift = n_both / by_chance
        return {
            "feature_id": a,
            "rank": rank,
            "partner_id": partner,
            "n_both": n_both,
            "n_feature": n_of[a],
            "n_partner": n_of[partner],
            "n_units": np.full(len(a), n),
            "jaccard": n_both / (n_of[a] + n_of[partner] - n_both),
            "lift": lift,
            "pmi": np.log(lift),
            "phi": values[row, partner],
            "cosine": dots[row, partner] / np.sqrt(self.norm[a] * self.norm[partner]),
            "n_texts_both": texts[row, partner],
            "n_texts_expected": expected[row, partner],
            "partner_is_dense": self.is_dense[partner],
        }


def _clusters(columns: _Rows, is_dense: np.ndarray) -> _Rows:
    cluster = clusters(columns["feature_id"], columns["partner_id"], columns["phi"], is_dense)
    members = np.flatnonzero(cluster >= 0)
    members = members[np.lexsort((members, cluster[members]))]
    size = np.bincount(cluster[members]) if len(members) else np.zeros(0, np.int64)
    return {
        "cluster_id": cluster[members],
        "feature_id": members,
        "n_features": size[cluster[members]],
    }


def _named(run: RunInfo, sae: SaeInfo, unit: str, columns: _Rows) -> pa.Table:
    n = len(columns["feature_id"])
    names = constants(n, run_id=run.run_id, sae_id=sae.sae_id, unit=unit)
    tests = {name: pa.array(x, mask=np.isnan(x)) for name, x in columns.items() if name in "pq"}
    return pa.table({**names, **columns, **tests})
