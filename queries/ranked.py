"""A long table read a page at a time: filtered and sorted once, then sliced by row number."""

import threading
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl

from energylens.db.store import Store
from energylens.queries.filters import parse_filter
from energylens.queries.meanings import NOTHING

FEATURE_COLUMNS = {
    "feature_id": "INTEGER",
    "n_active": "BIGINT",
    "n_texts": "BIGINT",
    "density": "DOUBLE",
    "max_activation": "FLOAT",
    "mean_activation": "DOUBLE",
    "score": "DOUBLE",
    "top_category": "VARCHAR",
    "selectivity": "DOUBLE",
    "is_dense": "BOOLEAN",
    "label": "VARCHAR",
    "is_starred": "BOOLEAN",
    "note": "VARCHAR",
}
"""Columns of the feature list, with their DuckDB types."""

_MEANT = "feature_id IN (SELECT w.feature_id FROM meant_by_words AS w WHERE w.word = WORD)"
_LISTED = ", ".join(f'"{column}"' for column in FEATURE_COLUMNS)


@dataclass(frozen=True)
class Sort:
    """By which column, and which way; NULL always comes last."""

    column: str = "score"
    descending: bool = True


MATCH = Sort("match")
"""By how surely the words of the filter lead to a feature."""


class FeatureList:
    """The features of one SAE, filtered and sorted; rows are read by number.

    Threads take turns on its one cursor; `interrupt` may come from any of them at any time.
    """

    def __init__(self, store: Store, run: str, sae: str) -> None:
        self.store, self.run, self.sae = store, run, sae
        self._con: duckdb.DuckDBPyConnection = store.cursor()
        self._turn = threading.Lock()

    def arrange(self, filter_text: str, sort: Sort, led: pl.DataFrame = NOTHING) -> tuple[int, int]:
        """Filter and sort; how many rows are left, and how many features there are. `led` is what
        the words of the filter lead to.

        Raises:
            QueryError: the filter cannot be read.
        """
        condition = parse_filter(filter_text, FEATURE_COLUMNS, meant=_MEANT)
        if sort.column not in FEATURE_COLUMNS and sort != MATCH:
            raise ValueError(f"no column {sort.column}")
        way = "DESC" if sort.descending else "ASC"
        names: dict[str, object] = {"run": self.run, "sae": self.sae}
        statement = f"""CREATE OR REPLACE TEMP TABLE arranged AS
            SELECT row_number() OVER (ORDER BY "{sort.column}" {way} NULLS LAST, feature_id) - 1
                AS row_number, {_LISTED}
            FROM (
                SELECT f.*, e.description AS label, coalesce(n.is_starred, false) AS is_starred,
                    n.note, m.match
                FROM features AS f
                LEFT JOIN (
                    SELECT feature_id, sum(score) AS match FROM meant_by_words GROUP BY ALL
                ) AS m USING (feature_id)
                LEFT JOIN notes AS n USING (run_id, sae_id, feature_id)
                LEFT JOIN (FROM explanations WHERE is_label) AS e
                    USING (run_id, sae_id, feature_id)
                WHERE f.run_id = $run AND f.sae_id = $sae
            ) WHERE {condition.sql} ORDER BY 1"""  # noqa: S608 - columns are ours, values are bound
        with self._turn:
            self._con.register("meant_by_words", led.to_arrow())
            self._con.execute(statement, {**names, **condition.values})
            left = self._count("SELECT count(*) FROM arranged", {})
            total = self._count(
                "SELECT count(*) FROM features WHERE run_id = $run AND sae_id = $sae", names
            )
        return left, total

    def rows(self, first: int, end: int) -> list[tuple]:
        """Rows `first` to `end` as tuples in the order of FEATURE_COLUMNS."""
        with self._turn:
            return self._con.execute(
                f"SELECT {_LISTED} FROM arranged "  # noqa: S608
                "WHERE row_number >= $first AND row_number < $end ORDER BY row_number",
                {"first": first, "end": end},
            ).fetchall()

    def ids(self) -> np.ndarray:
        """All features that are left, in order."""
        with self._turn:
            found = self._con.sql("SELECT feature_id FROM arranged ORDER BY row_number")
            return found.to_arrow_table()["feature_id"].to_numpy()

    def row_of(self, feature_id: int) -> int | None:
        """The row a feature stands in; None where the filter leaves it out."""
        with self._turn:
            found = self._con.execute(
                "SELECT row_number FROM arranged WHERE feature_id = $feature",
                {"feature": feature_id},
            ).fetchall()
        return int(found[0][0]) if found else None

    def interrupt(self) -> None:
        """Stop what is running."""
        self._con.interrupt()

    def _count(self, sql: str, values: dict[str, object]) -> int:
        return int(self._con.execute(sql, values).fetchall()[0][0])
