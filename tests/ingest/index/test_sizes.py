"""What the index holds in memory at once changes no number of it."""

import shutil
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from energylens.db.schema import TABLES
from energylens.db.store import Store
from energylens.ingest.index.build import build_indexes
from energylens.ingest.index.ranges import feature_ranges
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog

TABLES_OF_ALL = (
    "efas", "efas_categories", "coactivation", "feature_matches", "feature_codes", "feature_texts",
    "top_contexts", "features", "specialists",
)  # fmt: skip


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def column(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def test_ranges_chunks_and_blocks_do_not_change_a_number(
    tmp_path: Path, rich_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, small in (
        ("energylens.ingest.index.efas._RANGE_CODES", 1_500),
        ("energylens.ingest.index.statistics.RANGE_CODES", 1_500),
        ("energylens.ingest.index.panel._ROWS", 7),
        ("energylens.ingest.index.panel._WINDOWS", 3),
        ("energylens.ingest.index.panel._BATCH_ROWS", 5),
        ("energylens.ingest.index.on_disk._NUMBERS", 1_000),
        ("energylens.stats.two_way._ROWS", 4),
        ("energylens.queries.matrices.CHUNK_CODES", 2_000),
        ("energylens.queries.matrices.BLOCK_BYTES", 16_000),
        ("energylens.queries.matrices.SLAB_ROWS", 3),
        ("energylens.queries.matrices._KEPT_CODES", 0),
        ("energylens.queries.matrices._DENSE_SHARE", 2.0),
    ):
        monkeypatch.setattr(name, small)
    copy = tmp_path / "copy.lens"
    shutil.copytree(rich_path, copy)
    with open_catalog(copy) as store:
        run_id = store.runs[0].info.run_id
    build_indexes(copy, Progress(), run_id)
    with open_catalog(copy) as mine, open_catalog(rich_path) as its:
        for table in TABLES_OF_ALL:
            order = ", ".join(TABLES[table].key)
            one, two = (frame(s, f"SELECT * FROM {table} ORDER BY {order}") for s in (mine, its))
            assert len(one) == len(two) > 20, table
            for name in one.columns:
                if one[name].dtype.is_numeric() and "id" not in name:
                    np.testing.assert_allclose(
                        column(one, name), column(two, name), rtol=1e-4, atol=1e-6, err_msg=name
                    )


def test_ranges_of_features_hold_as_many_codes_as_they_may() -> None:
    con = duckdb.connect()
    con.execute(
        "CREATE VIEW sorted_codes AS SELECT unnest([0, 0, 0, 1, 1, 3, 3, 3, 3, 3, 3]) AS feature_id"
    )
    assert list(feature_ranges(con, 6, 5, 9)) == [(0, 3), (3, 4), (4, 6)]
    assert list(feature_ranges(con, 6, 4, 9)) == [(0, 1), (1, 3), (3, 4), (4, 6)]
    assert list(feature_ranges(con, 6, 99, 2)) == [(0, 2), (2, 4), (4, 6)]
    con.close()
