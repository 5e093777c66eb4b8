"""Per-feature statistics from the codes of a run's complete shards, by DuckDB out of core.

Each `sql/*.sql` makes the rows of one derived table in key order. Codes are first sorted into
feature order; the rest works on ranges of features that hold a bounded number of codes.
"""

import shutil
import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from energylens.db.index_files import IndexWriter
from energylens.db.layout import StoreLayout
from energylens.db.limits import Limits, default_memory, spill_bytes
from energylens.db.parquet import ROW_GROUP, TableWriter
from energylens.db.provenance import SaeInfo
from energylens.db.sources import in_place, pattern_of
from energylens.db.store import open_store
from energylens.ingest.index.patterns import Patterns, prepare
from energylens.ingest.index.ranges import feature_ranges
from energylens.ingest.index.statements import statement
from energylens.queries.catalog import named_queries

TOP_CONTEXTS = 20
"""Contexts kept for each feature."""
RANGE_CODES = 4_000_000
"""Codes of the features worked on at once: bounds memory."""
MEMORY = 3 * 2**29
"""Bytes that DuckDB may hold, where there is more; what needs more goes to the scratch folder."""
_THREAD = 1 << 27
"""Bytes that a thread of it needs at least."""

_BATCH_ROWS = ROW_GROUP * 8


class Scratch:
    """A working catalogue over one run; a context manager."""

    def __init__(self, store: Path, run_id: str) -> None:
        self._run_id = run_id
        self._store = open_store(store, Limits(memory=min(MEMORY, default_memory())))
        self.con = self._store.cursor()
        run = StoreLayout(store).run(run_id).root
        for left in run.glob(".scratch-*"):  # of a process that was killed: one indexes at a time
            shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=run))
        self.con.execute("SET temp_directory = ?", [str(self.folder)])
        self.con.execute(f"SET max_temp_directory_size = '{spill_bytes(self.folder)}B'")
        (threads,) = self.con.execute("SELECT current_setting('threads')").fetchall()[0]
        self.con.execute(f"SET threads = {min(threads, MEMORY // _THREAD)}")
        self.con.execute(statement("tokens"), {"run_id": run_id})
        self.con.execute(statement("texts"), {"run_id": run_id})
        self._is_prepared = False

    @cached_property
    def tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """token_index of the tokens that are not masked, in order, and the text of each, from 0."""
        found = self.con.execute(
            "SELECT token_index, text_id FROM run_tokens WHERE NOT is_masked ORDER BY token_index"
        ).fetchnumpy()
        text_ids = np.asarray(found["text_id"])  # in order, as tokens come text by text
        texts = np.cumsum(np.diff(text_ids, prepend=text_ids[:1]) != 0, dtype=np.int32)
        return np.asarray(found["token_index"]), texts

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, writer: IndexWriter, sae: SaeInfo, norms: list[float] | None) -> None:
        """Write every statistic of one SAE; `norms` are its decoder norms, None where unknown."""
        con = self.con
        names: dict[str, object] = {"run_id": self._run_id, "sae_id": sae.sae_id}
        with writer.table("feature_codes", sae.sae_id) as out:
            self._copy(out, "feature_codes", names)
        con.read_parquet(
            pattern_of(writer.path("feature_codes", sae.sae_id)), hive_partitioning=False
        ).create_view("sorted_codes", replace=True)
        con.register("decoder_norms", _norms(sae.d_sae, norms))
        if not self._is_prepared:
            prepare(con, self._run_id)
            self._is_prepared = True
        patterns = Patterns(con)
        with (
            writer.table("feature_texts", sae.sae_id) as texts,
            writer.table("top_contexts", sae.sae_id) as contexts,
            writer.table("features", sae.sae_id) as features,
        ):
            for first, end in feature_ranges(con, sae.d_sae, RANGE_CODES, sae.d_sae):
                bounds = {"first": first, "end": end}
                con.execute(statement("part"), bounds)
                self._copy(texts, "feature_texts", names)
                self._copy(contexts, "top_contexts", {**names, "k": TOP_CONTEXTS})
                self._copy(features, "features", {**names, **bounds})
                patterns.add_part()
        patterns.write(writer, self._run_id, sae)
        con.unregister("decoder_norms")
        con.execute("DROP TABLE IF EXISTS part")
        self._specialists(writer, sae)

    def _specialists(self, writer: IndexWriter, sae: SaeInfo) -> None:
        """Ask the named query, over the rows just written."""
        rows = in_place([writer.path("feature_texts", sae.sae_id)])
        self.con.execute("DROP VIEW IF EXISTS temp.feature_texts")
        self.con.execute(f"CREATE TEMP VIEW feature_texts AS FROM {rows}")
        self.con.execute(named_queries()["find_specialists"].sql)
        with writer.table("specialists", sae.sae_id) as out:
            rows = self.con.sql(
                "SELECT $run_id AS run_id, $sae_id AS sae_id, * "
                "FROM find_specialists($run_id, $sae_id)",
                params={"run_id": self._run_id, "sae_id": sae.sae_id},
            )
            for batch in rows.to_arrow_reader(_BATCH_ROWS):
                out.write(batch)

    def _copy(self, out: TableWriter, name: str, parameters: dict[str, object]) -> None:
        rows = self.con.sql(statement(name), params=parameters)
        for batch in rows.to_arrow_reader(_BATCH_ROWS):
            if batch.num_rows:
                out.write(batch)


def _norms(d_sae: int, norms: list[float] | None) -> pa.Table:
    return pa.table(
        {
            "feature_id": pa.array(range(d_sae), pa.int32()),
            "decoder_norm": pa.array([None] * d_sae if norms is None else norms, pa.float32()),
        }
    )
