"""The SQL that makes derived tables, one statement a file."""

from importlib.resources import files

_FOLDER = files("energylens.ingest.index") / "sql"


def statement(name: str) -> str:
    """The statement in `sql/NAME.sql`."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
