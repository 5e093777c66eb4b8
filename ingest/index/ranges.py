"""Ranges of features to work on at once, so that memory holds however many codes there are."""

from collections.abc import Iterator

import duckdb
import numpy as np


def feature_ranges(
    con: duckdb.DuckDBPyConnection, d_sae: int, most_codes: int, most_features: int
) -> Iterator[tuple[int, int]]:
    """Ranges (first, end) of at most `most_features` features that together hold at most
    `most_codes` codes, or one feature. Codes are counted in the view `sorted_codes`."""
    found = con.execute(
        "SELECT feature_id, count(*) AS n FROM sorted_codes GROUP BY feature_id"
    ).fetchnumpy()
    counts = np.zeros(d_sae, dtype=np.int64)
    counts[np.asarray(found["feature_id"])] = np.asarray(found["n"])
    first = held = 0
    for feature_id, n in enumerate(counts.tolist()):
        if feature_id > first and (held + n > most_codes or feature_id - first >= most_features):
            yield first, feature_id
            first, held = feature_id, 0
        held += n
    yield first, d_sae
