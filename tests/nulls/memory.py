"""What the index reads and writes, in memory: a store's own views over Arrow tables, and every
statistic of the index by the functions that the index calls, so that hundreds of simulated runs
take seconds."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from energylens.db.index_files import IndexWriter
from energylens.db.parquet import TableWriter
from energylens.db.provenance import RunInfo, fill_tables
from energylens.db.schema import TABLES
from energylens.db.store import Store
from energylens.db.views import STORED, _replace, _select, schema_statements
from energylens.ingest.index import routing_features
from energylens.ingest.index.coactivation import write_coactivation
from energylens.ingest.index.efas import write_efas
from energylens.ingest.index.patterns import Patterns, prepare
from energylens.ingest.index.routes import read_routing
from energylens.ingest.index.routing import write_routing
from energylens.ingest.index.statements import statement
from energylens.ingest.index.statistics import _norms
from energylens.queries.catalog import named_queries
from tests.synthetic import World, run_of, tables_of

Frames = dict[str, pl.DataFrame]


_FOLDER = Path(tempfile.gettempdir())
"""Of the nameless files of EFAS."""
_WRITTEN = {
    "efas": ("efas", "efas_categories"),
    "specialists": ("specialists",),
    "patterns": ("feature_patterns",),
    "coactivation": ("coactivation",),
    "routing": ("routing_layers", "routing_metrics", "routing_information", "routing_circuits"),
    "routing_features": ("routing_features",),
}
"""Tables that are there, be it without rows."""


class Kept(IndexWriter):
    """An index writer that keeps the rows of each table in memory."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.rows: dict[str, list[pa.Table]] = {}

    @contextmanager
    def table(self, name: str, sae_id: str | None = None) -> Iterator[TableWriter]:
        yield cast(TableWriter, _Out(self.rows.setdefault(name, []), TABLES[name].arrow))

    def tables(self) -> dict[str, pa.Table]:
        return {name: pa.concat_tables(rows) for name, rows in self.rows.items() if rows}


class _Out:
    def __init__(self, rows: list[pa.Table], schema: pa.Schema) -> None:
        self._rows, self._schema = rows, schema

    def write(self, rows: pa.Table) -> None:
        self._rows.append(rows.select(self._schema.names).cast(self._schema))


class Memory(Store):
    """A store of runs over simulated worlds that lies nowhere."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        self.con.execute("SET threads = 1")
        for made in schema_statements():
            self.con.execute(made)
        for query in named_queries().values():
            self.con.execute(query.sql)
        self._infos: list[RunInfo] = []

    @property
    def infos(self) -> list[RunInfo]:
        return self._infos

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self.con

    def fill(self, worlds: dict[str, World], is_same_texts: bool = True) -> None:
        """Hold these runs and no others, without an index."""
        self._infos = [
            run_of(world, run_id, texts_sha256="" if is_same_texts else run_id)
            for run_id, world in worlds.items()
        ]
        fill_tables(self.con, self._infos, STORED)
        parts = [tables_of(world, run_id) for run_id, world in worlds.items()]
        names = set(parts[0])
        self._show({name: pa.concat_tables([part[name] for part in parts]) for name in names})

    def _show(self, tables: dict[str, pa.Table]) -> None:
        for name, rows in tables.items():
            schema = TABLES[name].arrow
            missing = [n for n in schema.names if n not in rows.column_names]
            for column in missing:
                rows = rows.append_column(column, pa.nulls(len(rows), schema.field(column).type))
            self.con.register(f"rows_{name}", rows.select(schema.names).cast(schema))
            place = [Path(name)]
            _replace(self.con, TABLES[name], _select(TABLES[name], place, lambda p: f"rows_{p[0]}"))

    def index(
        self,
        worlds: dict[str, World],
        parts: tuple[str, ...] = ("efas", "coactivation", "specialists"),
        n_flips: int = 199,
    ) -> Frames:
        """The derived tables of the runs held; `parts` may name routing too. `routing_features`
        tells of every pair, so that those it is picked from are seen."""
        kept = Kept()
        for name in parts:
            for table in _WRITTEN[name]:
                kept.rows[table] = [TABLES[table].arrow.empty_table()]
        for run in self.infos:
            self._index_run(kept, run, worlds[run.run_id], parts, n_flips)
        tables = kept.tables()
        self._show(tables)
        return {name: cast(pl.DataFrame, pl.from_arrow(rows)) for name, rows in tables.items()}

    def _index_run(
        self, writer: Kept, run: RunInfo, world: World, parts: tuple[str, ...], n_flips: int
    ) -> None:
        con, (sae,) = self.con, run.saes
        names: dict[str, Any] = {"run_id": run.run_id, "sae_id": sae.sae_id}
        con.execute(statement("tokens"), {"run_id": run.run_id})
        con.execute(statement("texts"), {"run_id": run.run_id})
        con.register(
            "rows_sorted_codes", con.sql(statement("feature_codes"), params=names).to_arrow_table()
        )
        con.execute("CREATE OR REPLACE TEMP VIEW sorted_codes AS FROM rows_sorted_codes")
        if "specialists" in parts:
            self._specialists(writer, run, names)
        if "patterns" in parts:
            con.execute(statement("part"), {"first": 0, "end": sae.d_sae})
            prepare(con, run.run_id)
            patterns = Patterns(con)
            patterns.add_part()
            patterns.write(writer, run.run_id, sae)
        if "efas" in parts:
            write_efas(con, writer, run, sae, world.directions, _FOLDER, n_flips)
        if "coactivation" in parts:
            found = con.execute(
                "SELECT token_index, text_id FROM run_tokens WHERE NOT is_masked "
                "ORDER BY token_index"
            ).fetchnumpy()
            _, texts = np.unique(np.asarray(found["text_id"]), return_inverse=True)
            write_coactivation(con, writer, run, sae, np.asarray(found["token_index"]), texts)
        routing = read_routing(con, run.run_id) if world.choices is not None else None
        if routing is not None and "routing" in parts:
            write_routing(writer, run, *routing)
        if routing is not None and "routing_features" in parts:
            kept = routing_features.KEPT
            routing_features.KEPT = sae.d_sae
            try:
                routing_features.write_routing_features(con, writer, run, sae, *routing)
            finally:
                routing_features.KEPT = kept

    def _specialists(self, writer: Kept, run: RunInfo, names: dict[str, Any]) -> None:
        con, (sae,) = self.con, run.saes
        bounds = {"first": 0, "end": sae.d_sae}
        con.execute(statement("part"), bounds)
        con.register("decoder_norms", _norms(sae.d_sae, None))
        for name, values in (("feature_texts", names), ("features", {**names, **bounds})):
            with writer.table(name, sae.sae_id) as out:
                out.write(con.sql(statement(name), params=values).to_arrow_table())
        rows = writer.rows["feature_texts"]
        self._show({"feature_texts": pa.concat_tables(rows)})
        with writer.table("specialists", sae.sae_id) as out:
            out.write(
                con.sql(
                    "SELECT $run_id AS run_id, $sae_id AS sae_id, * "
                    "FROM find_specialists($run_id, $sae_id)",
                    params=names,
                ).to_arrow_table()
            )
