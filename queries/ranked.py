"""A long table read a page at a time: filtered and sorted once, then sliced by row number."""

from dataclasses import dataclass

import duckdb

from db.store import Store
from queries.filters import parse_filter

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
}
"""Columns of the feature list, with their DuckDB types."""


@dataclass(frozen=True)
class Sort:
    """By which column, and which way; NULL always comes last."""

    column: str = "score"
    descending: bool = True


class FeatureList:
    """The features of one SAE, filtered and sorted; rows are read by number.

    Belongs to one thread at a time: it holds a cursor, and `interrupt` may come from another.
    """

    def __init__(self, store: Store, run: str, sae: str) -> None:
        self.run, self.sae = run, sae
        self._con: duckdb.DuckDBPyConnection = store.cursor()
        self.n_rows = 0
        self.n_all = 0

    def arrange(self, filter_text: str, sort: Sort) -> int:
        """Filter and sort; the number of rows that are left.

        Raises:
            QueryError: the filter cannot be read.
        """
        condition = parse_filter(filter_text, FEATURE_COLUMNS)
        listed = ", ".join(f'"{column}"' for column in FEATURE_COLUMNS)
        way = "DESC" if sort.descending else "ASC"
        assert sort.column in FEATURE_COLUMNS, "columns come from FEATURE_COLUMNS"
        self._con.execute(
            f"""CREATE OR REPLACE TEMP TABLE arranged AS
            SELECT row_number() OVER (ORDER BY "{sort.column}" {way} NULLS LAST, feature_id) - 1
                AS row_number, {listed}
            FROM features WHERE run_id = $run AND sae_id = $sae AND {condition.sql}
            ORDER BY 1""",  # noqa: S608 - columns are ours, values are bound
            {"run": self.run, "sae": self.sae, **condition.values},
        )
        self.n_rows = self._count("SELECT count(*) FROM arranged", {})
        self.n_all = self._count(
            "SELECT count(*) FROM features WHERE run_id = $run AND sae_id = $sae",
            {"run": self.run, "sae": self.sae},
        )
        return self.n_rows

    def rows(self, first: int, end: int) -> list[tuple]:
        """Rows `first` to `end` as tuples in the order of FEATURE_COLUMNS."""
        listed = ", ".join(f'"{column}"' for column in FEATURE_COLUMNS)
        return self._con.execute(
            f"SELECT {listed} FROM arranged "  # noqa: S608
            "WHERE row_number >= $first AND row_number < $end ORDER BY row_number",
            {"first": first, "end": end},
        ).fetchall()

    def row_of(self, feature_id: int) -> int | None:
        """The row a feature stands in; None where the filter leaves it out."""
        found = self._con.execute(
            "SELECT row_number FROM arranged WHERE feature_id = $feature", {"feature": feature_id}
        ).fetchone()
        return None if found is None else int(found[0])

    def interrupt(self) -> None:
        """Stop what is running; safe from any thread."""
        self._con.interrupt()

    def _count(self, sql: str, values: dict[str, str]) -> int:
        row = self._con.execute(sql, values).fetchone()
        assert row is not None, "count(*) returns one row"
        return int(row[0])
