"""What stands at the cursor of an SQL statement could become: names of the catalogue, and values
that are stored."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from energylens.db.store import Reader
from energylens.queries.catalog import NamedQuery, named_queries
from energylens.queries.stored_values import Stored, stored_values

Kind = Literal["table", "column", "query", "value", "keyword"]

_WORD = re.compile(r"(?:(\w+)\.)?(\w*)$")
_AFTER_FROM = re.compile(r"\b(?:FROM|JOIN)\s+\w*$", re.IGNORECASE)
_COMPARED = re.compile(
    r"(\w+)\s*(?::?=|<>|!=|(?:NOT\s+)?IN\s*\((?:[^()]*,)?)\s*('?)([^',()]*)$", re.I
)
"""A name, and the text it is about to be compared with or to be given, up to the cursor."""
_ALIAS = r"\b(\w+)\s+(?:AS\s+)?{alias}\b"
_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN",
    "USING", "WITH", "DISTINCT", "CASE", "WHEN", "THEN", "ELSE", "END", "BETWEEN", "LIKE", "ILIKE",
    "NULLS LAST", "OVER", "PARTITION BY", "QUALIFY", "UNION ALL", "count(", "sum(", "avg(", "max(",
    "min(", "median(", "quantile_cont(", "arg_max(", "list(", "string_agg(", "regexp_matches(",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: str = ""
    doc: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the catalogue."""

    columns: tuple[Column, ...]
    doc: str = ""


@dataclass(frozen=True)
class Candidate:
    """Something that may be written at the cursor."""

    text: str
    kind: Kind
    note: str = ""
    """A column's type, a query's arguments, what a table holds."""


@dataclass(frozen=True)
class Completion:
    """What may be written in place of the last letters before the cursor."""

    taken_back: int
    """Letters."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The names of a store's catalogue, and values that it holds."""

    tables: dict[str, Table]
    values: dict[str, tuple[Stored, ...]] = field(default_factory=dict)
    """By the name of a column or of a query's argument."""

    def complete(self, before: str, after: str = "") -> Completion:
        """What the end of a text could become; `after` is the rest of the statement.

        A value after `=`, `:=` or `IN (`; a column after a dot; a table or query after FROM; else
        anything that begins with the word, columns of the statement's own tables first. Nothing
        for an empty word elsewhere.
        """
        compared = _COMPARED.search(before)
        if compared and compared[1].lower() in self.values:
            return self._values(compared[1].lower(), compared[2], compared[3], after)
        found = _WORD.search(before)
        owner, word = (found[1], found[2]) if found else (None, "")
        if owner is not None:
            names = self._owned(owner, before + after)
        elif _AFTER_FROM.search(before):
            names = [*self._tables(), *_queries()]
        else:
            names = self._anything(before + after) if word else []
        fitting = [one for one in names if one.text.lower().startswith(word.lower())]
        return Completion(len(word), tuple({one.text: one for one in fitting}.values()))

    def _values(self, name: str, quote: str, begun: str, after: str) -> Completion:
        close = "" if after.startswith("'") else "'"
        candidates = []
        for one in self.values[name]:
            if one.begins_with(begun):
                text = one.text.replace("'", "''")
                written = text if one.is_number else f"{quote or chr(39)}{text}{close}"
                candidates.append(Candidate(written, "value", one.note))
        return Completion(len(quote) + len(begun), tuple(candidates))

    def _tables(self) -> Iterator[Candidate]:
        for name, table in self.tables.items():
            yield Candidate(name, "table", table.doc)

    def _columns(self, table: str) -> Iterator[Candidate]:
        for column in self.tables[table].columns:
            yield Candidate(column.name, "column", column.type)

    def _owned(self, owner: str, text: str) -> list[Candidate]:
        """The columns of a table, or of the table an alias stands for."""
        if owner not in self.tables:
            named = re.findall(_ALIAS.format(alias=re.escape(owner)), text, re.IGNORECASE)
            tables = [name for name in named if name in self.tables]
            if not tables:
                return []
            owner = tables[-1]
        return list(self._columns(owner))

    def _anything(self, text: str) -> list[Candidate]:
        words = set(re.findall(r"\w+", text))
        own = [name for name in self.tables if name in words]
        others = [name for name in self.tables if name not in words]
        return [
            *(column for name in own for column in self._columns(name)),
            *self._tables(),
            *_queries(),
            *(column for name in others for column in self._columns(name)),
            *(Candidate(word, "keyword") for word in _KEYWORDS),
        ]


def vocabulary(store: Reader) -> Vocabulary:
    """The names of a store."""
    cursor = store.cursor()
    docs = dict(
        cursor.execute(
            "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' "
            "UNION ALL SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main'"
        ).fetchall()
    )
    rows = cursor.execute(
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
        "WHERE schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"
    ).fetchall()
    columns: dict[str, list[Column]] = {}
    for table, column, kind, doc in rows:
        columns.setdefault(table, []).append(Column(column, kind, doc or ""))
    tables = {n: Table(tuple(found), docs.get(n) or "") for n, found in columns.items()}
    return Vocabulary(tables, stored_values(store))


def arguments(query: NamedQuery) -> str:
    """A query's parameters as they are written, with their defaults."""
    told = (f"{p.name} := {p.default}" if p.default else p.name for p in query.parameters)
    return ", ".join(told)


def _queries() -> Iterator[Candidate]:
    for name, query in named_queries().items():
        yield Candidate(f"{name}(", "query", arguments(query))
