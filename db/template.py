"""What is the same in the catalogue of every store: its documented tables and the named queries.

DuckDB takes half a second to make it and a hundredth of one to copy it. So it is made once for each
version of it and of DuckDB, and kept in the user's cache.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
from platformdirs import user_cache_path

from energylens.db.sources import quote


def install(con: duckdb.DuckDBPyConnection, statements: Sequence[str]) -> None:
    """Bring an empty catalogue to where the statements lead, by way of the cache where there is
    one. The statements create tables without rows, views, macros and comments."""
    digest = hashlib.sha256("\0".join([duckdb.__version__, *statements]).encode()).hexdigest()
    kept = user_cache_path("energylens") / f"catalog-{digest[:16]}.duckdb"
    try:
        if not kept.is_file():
            _make(kept, statements)
        _copy(kept, con)
    except (duckdb.Error, OSError):  # a cache that cannot be written, or is damaged
        with suppress(OSError):
            kept.unlink(missing_ok=True)
        _run(con, statements)


def _make(kept: Path, statements: Sequence[str]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".catalog-") as folder:
        made = Path(folder, kept.name)
        with duckdb.connect(str(made)) as con:
            _run(con, statements)
        made.replace(kept)


def _copy(kept: Path, con: duckdb.DuckDBPyConnection) -> None:
    found = con.execute("SELECT current_database()").fetchall()
    con.execute(f"ATTACH {quote(str(kept))} AS energylens_template (READ_ONLY)")
    try:
        con.execute(f'COPY FROM DATABASE energylens_template TO "{found[0][0]}" (SCHEMA)')
    finally:
        con.execute("DETACH energylens_template")


def _run(con: duckdb.DuckDBPyConnection, statements: Sequence[str]) -> None:
    con.begin()
    for statement in statements:
        con.execute(statement)
    con.commit()
