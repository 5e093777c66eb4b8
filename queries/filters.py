"""The filter bar's small grammar, turned into SQL with every value bound.

    max_activation > 5          a comparison: = != < <= > >=
    top_category:math           contains, whatever the case
    top_category~"^non_"        matches a regular expression
    word                        contains, in any text column; in any at all where none is text;
                                or, in a list of features, leads to the feature
    -term                       not

Terms stand side by side and must all hold. Column names may be cut short while they are clear:
`max`, `category`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb

from energylens.errors import QueryError

_TERM = re.compile(
    r"""\s*(?P<not>-)?
    (?:(?P<column>[A-Za-z_]\w*)\s*(?P<operator><=|>=|!=|[<>=:~])\s*)?
    (?P<value>"[^"]*"|[^\s"]+)""",
    re.VERBOSE,
)

_MOST_TERMS = 200


@dataclass(frozen=True)
class Condition:
    """A WHERE clause and the values it binds."""

    sql: str
    values: dict[str, object]


def parse_filter(
    text: str,
    columns: dict[str, str],
    titles: dict[str, str] | None = None,
    in_sql: Mapping[str, str] | None = None,
    meant: str = "",
) -> Condition:
    """The condition a filter text stands for; `columns` maps names to DuckDB types, `titles` the
    headings they are shown under to names, `in_sql` names to what SQL calls them, where it calls
    them otherwise. `meant` is SQL for what else a bare word may mean, with WORD in its place.

    Raises:
        QueryError: a term cannot be read, and the message quotes it; or there are far too many.
    """
    headings = {title.lower(): name for title, name in (titles or {}).items()}
    terms: list[str] = []
    values: dict[str, object] = {}
    for found in _terms(text):
        name = f"filter_{len(values)}"
        sql, value = _term(found, columns, headings, name, in_sql or {})
        if meant and found["operator"] is None:
            sql = f"{sql} OR {meant.replace('WORD', f'${name}')}"
        values[name] = value
        terms.append(f"NOT coalesce({sql}, false)" if found["not"] else sql)
    return Condition(_joined([f"({term})" for term in terms], "AND") or "true", values)


def bare_words(text: str) -> list[str]:
    """The words of a filter that compare no column.

    Raises:
        QueryError: a term cannot be read.
    """
    found = (term["value"].strip('"') for term in _terms(text) if term["operator"] is None)
    return list(dict.fromkeys(word for word in found if word.strip()))


def _terms(text: str) -> Iterator[re.Match[str]]:
    if not is_utf8(text):
        raise QueryError(f"the filter {text!r} holds what UTF-8 cannot; type it anew")
    place = n = 0
    while text[place:].strip():
        if (n := n + 1) > _MOST_TERMS:
            raise QueryError(f"the filter has more than {_MOST_TERMS} words; leave some out")
        found = _TERM.match(text, place)
        if found is None:
            raise QueryError(f"the filter cannot be read from here on: {text[place:].strip()}")
        place = found.end()
        yield found


def _joined(parts: list[str], word: str) -> str:
    """Conditions joined by AND or OR, in halves of halves: a chain of many is nested more deeply
    than DuckDB takes."""
    if len(parts) <= 2:
        return f" {word} ".join(parts)
    half = len(parts) // 2
    return f"({_joined(parts[:half], word)}) {word} ({_joined(parts[half:], word)})"


def _term(
    found: re.Match[str],
    columns: dict[str, str],
    headings: dict[str, str],
    name: str,
    in_sql: Mapping[str, str],
) -> tuple[str, object]:
    value, operator = found["value"].strip('"'), found["operator"]
    if operator is None:
        texts = [column for column, kind in columns.items() if kind == "VARCHAR"]
        checks = [
            f"contains(lower({_quoted(in_sql.get(c, c))}::VARCHAR), lower(${name}))"
            for c in texts or columns
        ]
        return _joined(checks, "OR"), value
    column = _column(found["column"], columns, headings)
    own = _quoted(in_sql.get(column, column))
    if operator == ":":
        return f"contains(lower({own}::VARCHAR), lower(${name}))", value
    if operator == "~":
        _check_pattern(value)
        return f"regexp_matches({own}::VARCHAR, ${name})", value
    if columns[column] == "VARCHAR":
        return f"{own}::VARCHAR {operator} ${name}", value
    if columns[column] == "BOOLEAN":
        return f"{own} {operator} ${name}", value.lower() in ("true", "yes", "1")
    try:
        return f"{own} {operator} ${name}", float(value)
    except ValueError:
        raise QueryError(f"{column} {operator} takes a number, not '{value}'") from None


def is_utf8(text: str) -> bool:
    """Whether UTF-8 holds a text; what Python reads from a terminal or a file name may be none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(column: str) -> str:
    """A column as SQL names it; those of an ad-hoc result are named by anybody."""
    return '"' + column.replace('"', '""') + '"'


def _column(name: str, columns: dict[str, str], headings: dict[str, str]) -> str:
    if name in columns:
        return name
    if name.lower() in headings:
        return headings[name.lower()]
    matching = [
        column
        for column in columns
        if column.startswith(name) or any(p.startswith(name) for p in column.split("_"))
    ]
    if len(matching) == 1:
        return matching[0]
    raise QueryError(
        f"'{name}' could be {' or '.join(matching)}"
        if matching
        else f"there is no column '{name}'; there are: {', '.join(columns)}"
    )


def _check_pattern(pattern: str) -> None:
    """DuckDB matches with RE2, which knows no look-around and no references back."""
    con = duckdb.default_connection().cursor()
    try:
        con.execute("SELECT regexp_matches('', $pattern)", {"pattern": pattern})
    except duckdb.InvalidInputException as error:
        wrong = str(error).removeprefix("Invalid Input Error: ")
        raise QueryError(f"'{pattern}' is no regular expression: {wrong}") from error
