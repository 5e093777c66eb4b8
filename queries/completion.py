"""What a word in an SQL statement could become: tables, their columns, named queries, keywords."""

import re
from dataclasses import dataclass
from os.path import commonprefix

from energylens.db.store import Reader
from energylens.queries.catalog import named_queries

_WORD = re.compile(r"(?:(\w+)\.)?(\w*)$")
_ALIAS = r"\b(\w+)\s+(?:AS\s+)?{alias}\b"
_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN",
    "USING", "WITH", "DISTINCT", "CASE", "WHEN", "THEN", "ELSE", "END", "BETWEEN", "LIKE", "ILIKE",
    "NULLS LAST", "OVER", "PARTITION BY", "QUALIFY", "UNION ALL", "count(", "sum(", "avg(", "max(",
    "min(", "median(", "quantile_cont(", "arg_max(", "list(", "string_agg(", "regexp_matches(",
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """The names of a store's catalogue."""

    columns: dict[str, tuple[str, ...]]
    """Of every table, in order."""

    def complete(self, before: str) -> list[str]:
        """What the word at the end of a text could become, tables first; none for an empty word
        that stands after no table."""
        found = _WORD.search(before)
        owner, word = (found[1], found[2]) if found else (None, "")
        if owner is not None:
            return [name for name in self._columns_of(owner, before) if _begins(name, word)]
        if not word:
            return []
        queries = [f"{name}(" for name in named_queries()]
        columns = dict.fromkeys(c for names in self.columns.values() for c in names)
        return [n for n in (*self.columns, *columns, *queries, *_KEYWORDS) if _begins(n, word)]

    def _columns_of(self, owner: str, text: str) -> tuple[str, ...]:
        """The columns of a table, or of the table an alias stands for."""
        if owner in self.columns:
            return self.columns[owner]
        named = re.findall(_ALIAS.format(alias=re.escape(owner)), text, re.IGNORECASE)
        tables = [name for name in named if name in self.columns]
        return self.columns[tables[-1]] if tables else ()


def vocabulary(store: Reader) -> Vocabulary:
    """The names of a store."""
    rows = store.cursor().execute(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE schema_name = 'main' AND NOT internal "
        "ORDER BY table_name, column_index"
    )
    columns: dict[str, list[str]] = {}
    for table, column in rows.fetchall():
        columns.setdefault(table, []).append(column)
    return Vocabulary({table: tuple(names) for table, names in columns.items()})


def added(before: str, candidates: list[str]) -> tuple[int, str]:
    """How many letters to take back and what to write instead: as far as all candidates agree."""
    found = _WORD.search(before)
    word = found[2] if found else ""
    agreed = commonprefix([c.lower() for c in candidates])  # noqa: RUF071 - letters, no paths
    if not agreed or len(agreed) < len(word):
        return 0, ""
    return len(word), candidates[0][: len(agreed)]


def _begins(name: str, word: str) -> bool:
    return name.lower().startswith(word.lower())
