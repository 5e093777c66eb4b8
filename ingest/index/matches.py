"""Features of one SAE that another SAE of the run has too: by activation, and by direction where
both decoders write into the same space."""

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

import duckdb
import numpy as np
import pyarrow as pa

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.table import constants
from energylens.queries.matching import match
from energylens.queries.matrices import Codes

Directions = Callable[[SaeInfo], np.ndarray | None]
"""Decoder directions of an SAE; None where its weights are not here."""


def neighbours_of(saes: Sequence[SaeInfo]) -> dict[str, list[SaeInfo]]:
    """The SAEs each SAE is matched with: the next and the one before in its stream, by layer and
    then by width."""

    def order(sae: SaeInfo) -> tuple[str, int, bool, int, str]:
        is_later = sae.hook_name.endswith(("resid_mid", "resid_post"))
        return (sae.stream, sae.layer, is_later, sae.d_sae, sae.sae_id)

    found: dict[str, list[SaeInfo]] = {sae.sae_id: [] for sae in saes}
    for _, stream in groupby(sorted(saes, key=order), key=lambda sae: sae.stream):
        for one, other in pairwise(list(stream)):
            found[one.sae_id].append(other)
            found[other.sae_id].append(one)
    return found


def write_matches(
    con: duckdb.DuckDBPyConnection,
    writer: IndexWriter,
    run: RunInfo,
    sae: SaeInfo,
    token_index: np.ndarray,
    directions: Directions,
) -> None:
    """Write `feature_matches` of one SAE with its neighbours."""

    def codes(one: SaeInfo) -> Codes:
        return Codes(con, run.run_id, one.sae_id, one.d_sae, one.l0 or 1.0, token_index)

    with writer.table("feature_matches", sae.sae_id) as out:
        for other in sorted(neighbours_of(run.saes)[sae.sae_id], key=lambda s: s.sae_id):
            cosines = _cosines(directions(sae), directions(other))
            for rows in match(codes(sae), codes(other), cosines):
                out.write(_named(run, sae, other, rows))


def _cosines(
    one: np.ndarray | None, other: np.ndarray | None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    if one is None or other is None or one.shape[1] != other.shape[1]:
        return None
    units = [d / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-30) for d in (one, other)]
    return lambda a, b: np.einsum("md,md->m", units[0][a], units[1][b])


def _named(run: RunInfo, sae: SaeInfo, other: SaeInfo, columns: dict[str, np.ndarray]) -> pa.Table:
    n = len(columns["feature_id"])
    names = constants(n, run_id=run.run_id, sae_id=sae.sae_id, other_sae_id=other.sae_id)
    cosine = columns["cosine"]
    return pa.table({**names, **columns, "cosine": pa.array(cosine, mask=np.isnan(cosine))})
