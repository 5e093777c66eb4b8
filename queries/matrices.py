"""Codes as sparse matrices, a chunk of tokens at a time, and products of them over a whole run.

Memory holds one chunk and one block of the product, whatever the length of the run and the width of
the SAEs: where the product is too large for a block, the codes are read once more for each block.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import duckdb
import numpy as np
from scipy import sparse

CHUNK_CODES = 4_000_000
"""Codes in a chunk, about."""
BLOCK_BYTES = 1 << 30
"""Bytes of the dense accumulators of one block."""
SLAB_ROWS = 256
"""Rows of a block that are looked at together."""
_DENSE_SHARE = 0.05
"""Matrices fuller than this are multiplied as dense ones, which is faster from about here on."""
_KEPT_CODES = 20_000_000
"""An SAE with fewer codes keeps its chunks from one block to the next."""

_CODES = """
SELECT c.token_index, c.feature_id, c.activation
FROM codes AS c
WHERE c.run_id = $run_id AND c.sae_id = $sae_id
    AND c.token_index >= $first AND c.token_index <= $last
"""


@dataclass(frozen=True)
class Codes:
    """The codes of one SAE at the tokens of a run that are not masked."""

    con: duckdb.DuckDBPyConnection
    run_id: str
    sae_id: str
    d_sae: int
    l0: float
    token_index: np.ndarray
    """The N tokens, in order."""
    _kept: dict[tuple[int, int], sparse.csr_matrix] = field(default_factory=dict)

    def chunk(self, first: int, end: int) -> sparse.csr_matrix:
        """[end - first, d_sae]: activations at the tokens of these rows, float64."""
        if (first, end) in self._kept:
            return self._kept[first, end]
        found = self._read(first, end)
        if self.l0 * len(self.token_index) < _KEPT_CODES:
            self._kept[first, end] = found
        return found

    def _read(self, first: int, end: int) -> sparse.csr_matrix:
        own = self.token_index[first:end]
        names = {"run_id": self.run_id, "sae_id": self.sae_id}
        bounds = {"first": int(own[0]), "last": int(own[-1])}
        rows = self.con.sql(_CODES, params={**names, **bounds}).to_arrow_table()
        token, feature, value = (column.to_numpy() for column in rows.columns)
        row, kept = rows_of(own, token)
        shape = (len(own), self.d_sae)
        data = value[kept].astype(np.float64)
        return sparse.csr_matrix((data, (row, feature[kept])), shape=shape)


def rows_of(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the wanted values stand in `known`, which is in order, and which of them are there:
    a row for each that is, and a flag for each."""
    row = np.searchsorted(known, wanted)
    inside = row < len(known)
    inside[inside] = known[row[inside]] == wanted[inside]
    return row[inside], inside


def chunks(n_tokens: int, l0: float) -> Iterator[tuple[int, int]]:
    """Ranges of rows that hold about CHUNK_CODES codes."""
    step = max(1, int(CHUNK_CODES / max(l0, 1.0)))
    for first in range(0, n_tokens, step):
        yield first, min(first + step, n_tokens)


def slabs(n_rows: int) -> Iterator[slice]:
    """Rows of a block, a few at a time, so that what is worked out of them stays small."""
    for first in range(0, n_rows, SLAB_ROWS):
        yield slice(first, min(first + SLAB_ROWS, n_rows))


def blocks(n_rows: int, n_columns: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of a product whose dense accumulators, of `row_bytes` a column, fit
    BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (row_bytes * max(n_columns, 1)))
    for first in range(0, n_rows, step):
        yield first, min(first + step, n_rows)


def indicators(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """One where a matrix has an entry, float32: sums are exact below 2^24 tokens."""
    ones = np.ones(len(matrix.data), dtype=np.float32)
    return sparse.csr_matrix((ones, matrix.indices, matrix.indptr), matrix.shape)


def add_product(out: np.ndarray, left: sparse.csr_matrix, right: sparse.csr_matrix) -> None:
    """Add `left.T @ right` to a dense array."""
    n_rows = len(right.indptr) - 1
    if right.nnz > _DENSE_SHARE * n_rows * out.shape[1]:
        for rows in slabs(n_rows):
            out += left[rows].toarray().T @ right[rows].toarray()
        return
    left = left.T.tocsr()
    for rows in slabs(len(out)):
        found = left[rows] @ right
        for row, (first, end) in zip(out[rows], pairwise(found.indptr), strict=True):
            row[found.indices[first:end]] += found.data[first:end]
