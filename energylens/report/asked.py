"""What a figure or a table is made of: rows, with the SQL that gives them again."""

import re
from dataclasses import dataclass
from itertools import groupby
from textwrap import dedent

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call
from energylens.queries.display import is_plain


@dataclass(frozen=True)
class Asked:
    """The rows of a question to the store."""

    sql: str
    """As `energylens sql` takes it."""
    rows: pl.DataFrame


def ask_query(reader: Reader, name: str, **values: str | float | bool) -> Asked:
    """The rows of a named query."""
    given = ", ".join(f"{key} := {literal(value)}" for key, value in values.items())
    return Asked(f"FROM {name}({given})", call(reader, name, **values))


def ask_sql(reader: Reader, sql: str, **values: str | float | bool) -> Asked:
    """The rows of a statement, whose values stand in it as `$name`."""
    con = reader.cursor()
    try:
        rows = pl.DataFrame(con.sql(sql, params=values).to_arrow_table())
    finally:
        con.close()
    written = re.sub(r"\$(\w+)", lambda found: literal(values[found[1]]), sql)
    return Asked(dedent(written).strip(), rows)


def literal(value: str | float | bool) -> str:
    """A value as SQL writes it; signs that a terminal would obey by their numbers."""
    if isinstance(value, str):
        runs = [(plain, "".join(run)) for plain, run in groupby(value, is_plain)] or [(True, "")]
        said = (_quoted(run) if plain else _numbered(run) for plain, run in runs)
        return " || ".join(said)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _numbered(text: str) -> str:
    return " || ".join(f"chr({ord(sign)})" for sign in text)
