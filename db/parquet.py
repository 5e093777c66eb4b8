"""Write one table's Parquet file, row group by row group, with the schema's encodings."""

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from energylens.db.table import Table

ROW_GROUP = 122_880
"""Rows in a row group of the index: DuckDB reads and skips whole groups of this size."""


class TableWriter:
    """Appends Arrow tables to one Parquet file; a context manager."""

    def __init__(self, path: Path, table: Table) -> None:
        self.path, self.table, self.rows = path, table, 0
        encodings = {c.name: c.encoding for c in table.columns if c.encoding}
        plain = [
            f"{c.name}.list.element" if pa.types.is_list(c.type) else c.name
            for c in table.columns
            if not c.encoding and not pa.types.is_boolean(c.type)
        ]
        options: dict[str, Any] = {"use_dictionary": plain, "column_encoding": encodings}
        self._writer = pq.ParquetWriter(
            path,
            table.arrow,
            compression="zstd",
            write_page_index=True,
            **options,
        )

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Append rows as row groups of their own; columns are cast to the schema."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        table = table.select(self.table.arrow.names).cast(self.table.arrow)
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.rows += table.num_rows

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
