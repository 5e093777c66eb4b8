"""How SQL reads the Parquet files of a store: by their very names, wherever the store lies.

DuckDB takes the path it is given for a pattern, and folders such as `layer=3` above it for columns;
here a path is a name and nothing else.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from energylens.errors import StoreError

Source = Callable[[list[Path]], str]
"""What follows FROM to read the rows of some files of one table."""

_SPECIAL = re.compile(r"[*?\[]")

_GUIDE = (
    "the tables lie beside this file, which has to be the one that was opened: "
    "duckdb STORE/catalog.duckdb; attached or with a temp_directory of your own, first: "
    "SET VARIABLE energylens_store = ''/path/of/STORE''"
)
_ALONE = (
    "two catalogues of Energy-Lens are open at once, and both would read the files of one store; "
    "open each by itself"
)
_ASKED = r"^([^?]*)\.tmp(\?.*)/catalog\.duckdb$"
CATALOG_MACROS = (
    rf"""
CREATE OR REPLACE MACRO energylens_file(file) AS
    regexp_replace(
        CASE
            WHEN getvariable('energylens_store') IS NOT NULL THEN getvariable('energylens_store')
            WHEN ends_with(current_setting('temp_directory'), '/catalog.duckdb.tmp')
                THEN left(current_setting('temp_directory'), -19)
            WHEN regexp_matches(current_setting('temp_directory'), '{_ASKED}', 's')
                THEN regexp_replace(current_setting('temp_directory'), '{_ASKED}', '\1\2', 's')
            ELSE error('{_GUIDE}')
        END, '([*?\[])', '[\1]', 'g') || '/' || file
""",
    f"""
CREATE OR REPLACE MACRO energylens_is_alone() AS (
    SELECT CASE WHEN count(*) > 1 THEN error('{_ALONE}') ELSE true END
    FROM duckdb_databases() WHERE ends_with(path, '/catalog.duckdb')
)
""",  # noqa: S608
)
"""What the views of `catalog.duckdb` call: it holds no place, so that a copy reads its own files.

DuckDB spills beside the file it has opened, and tells where (with its ending before the first
question mark of the path): the only place that a view can know when it is bound. Of two catalogues
in one session a view cannot tell its own, so it refuses.
"""


def pattern_of(path: Path) -> str:
    """The pattern that matches one file: this one.

    Raises:
        StoreError: the path is none that DuckDB can be given.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{text!r} is no UTF-8, so DuckDB cannot read it; rename it") from error
    if not _SPECIAL.search(text):
        return text
    if "\\" in text:
        raise StoreError(
            f"'{text}' holds a backslash and one of * ? [ in its path, which DuckDB cannot read; "
            "rename the folder"
        )
    return _SPECIAL.sub(r"[\g<0>]", text)


def in_place(files: list[Path]) -> str:
    """Reads files where they lie now."""
    listed = ", ".join(quote(pattern_of(path.resolve())) for path in files)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def relative_to(root: Path) -> Source:
    """Reads files of the store at `root` from beside the catalogue that holds the view."""

    def source(files: list[Path]) -> str:
        listed = ", ".join(quote(pattern_of(path.relative_to(root))) for path in files)
        return (
            f"read_parquet(list_transform([{listed}], lambda file: energylens_file(file)), "
            "hive_partitioning = false) WHERE energylens_is_alone()"
        )

    return source


def quote(text: str) -> str:
    """A string as an SQL literal; for comments and paths, which cannot be bound."""
    return "'" + text.replace("'", "''") + "'"


def quote_all(texts: Iterable[str]) -> str:
    """A list of strings as an SQL literal."""
    return "[" + ", ".join(quote(text) for text in texts) + "]"
