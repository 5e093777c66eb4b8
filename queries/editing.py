"""What an editor of SQL asks: which statement the cursor is in, how it is best written, and where
in it an error lies."""

import re
from collections.abc import Mapping
from itertools import pairwise
from textwrap import wrap
from typing import NamedTuple

import duckdb

from energylens.db.sources import quote
from energylens.errors import QueryError
from energylens.queries.catalog import NamedQuery

_LINE = 88
PLACE = re.compile(r"^LINE (\d+): (.*)\n( *)\^", re.MULTILINE)
"""How DuckDB tells where an error lies: a line of the statement, and a mark under it."""
_CUT = "..."
"""What DuckDB writes where it shows a part of a line."""


class Span(NamedTuple):
    """A part of a text, in characters."""

    start: int
    end: int


class Place(NamedTuple):
    """A place in a text; both count from 0."""

    line: int
    column: int


def statement_at(text: str, offset: int) -> Span:
    """The statement a cursor is in, without its semicolon; empty where there is none. At the end of
    a line and of the text it is the one that ends there."""
    ends = [*_semicolons(text), len(text)]
    spans, start = [], 0
    for end in ends:
        spans.append(Span(start, end))
        start = end + 1
    here = next(place for place, span in enumerate(spans) if offset <= span.end)
    rest = text[offset : spans[here].end].split("\n")[0]
    is_behind = not text[spans[here].start : offset].strip(" \t") and not rest.strip()
    while here and (is_behind or not text[spans[here].start : spans[here].end].strip()):
        here, is_behind = here - 1, False
    found = text[spans[here].start : spans[here].end]
    begin = spans[here].start + len(found) - len(found.lstrip())
    return Span(begin, begin + len(found.strip()))


def _semicolons(text: str) -> list[int]:
    written = text.encode(errors="surrogatepass")
    return [
        len(written[:place].decode(errors="replace"))
        for place, kind in duckdb.tokenize(text)
        if kind == duckdb.token_type.operator and written[place : place + 1] == b";"
    ]


def formatted(text: str) -> str:
    """The same statements with lines, indents and capitals as sqlfmt writes them.

    Raises:
        QueryError: it cannot be formatted without changing what it says.
    """
    from sqlfmt.api import format_string
    from sqlfmt.exception import SqlfmtError
    from sqlfmt.mode import Mode

    mode = Mode(dialect_name="clickhouse", line_length=_LINE)  # the one that leaves names alone
    try:
        found = format_string(text, mode).rstrip("\n")
    except SqlfmtError as error:
        raise QueryError(f"this cannot be formatted: {error}") from error
    if _words(found) != _words(text):
        raise QueryError("this cannot be formatted without changing it; it stays as it is")
    return found


def _words(text: str) -> list[tuple[object, str]]:
    """Tokens without comments; capitals count between quotes."""
    written = text.encode(errors="surrogatepass")
    found = duckdb.tokenize(text)
    places = [*(place for place, _ in found), len(written)]
    words = []
    for (place, end), (_, kind) in zip(pairwise(places), found, strict=True):
        if kind == duckdb.token_type.comment:
            continue
        word = written[place:end].decode(errors="replace").strip()
        words.append((kind, word if word[:1] in "'\"$" else word.lower()))
    return words


def told_at(message: str, text: str, span: Span) -> tuple[str, Place | None]:
    """An error of the statement at `span`, told with its place in the whole text where DuckDB tells
    one, and that place."""
    place = place_of_error(message, text[span.start : span.end])
    if place is None:
        return message, None
    before = text[: span.start].split("\n")
    column = place.column + (len(before[-1]) if place.line == 0 else 0)
    here = Place(len(before) - 1 + place.line, column)
    return f"line {here.line + 1}, column {here.column + 1}: {message}", here


def place_of_error(message: str, statement: str) -> Place | None:
    """Where in its statement an error lies that DuckDB tells of; None where it tells no place."""
    found = PLACE.search(message)
    lines = statement.split("\n")
    if found is None or int(found[1]) > len(lines):
        return None
    line, shown = int(found[1]) - 1, found[2]
    column = len(found[3]) - len(f"LINE {found[1]}: ")
    if shown.startswith(_CUT):
        part = shown.removeprefix(_CUT).removesuffix(_CUT)
        begin = lines[line].find(part)
        if begin < 0:
            return None
        column += begin - len(_CUT)
    return Place(line, column) if 0 <= column <= len(lines[line]) else None


def call_of(query: NamedQuery, known: Mapping[str, str]) -> tuple[str, Span | None]:
    """A call of a named query, an argument a line, with the values that are known; and where the
    first argument stands that has to be given yet."""
    lines = []
    for parameter in query.parameters:
        value = parameter.default
        if value is None and parameter.name in known:
            value = quote(known[parameter.name])
        lines.append(f"    {parameter.name} := {'?' if value is None else value}")
    told = "".join(f"-- {line}\n" for line in wrap(query.doc, _LINE - 3))
    head = f"{told}FROM {query.name}(\n"
    text = head + ",\n".join(lines) + "\n)"
    at = text.find(" := ?", len(head))
    return text, Span(at + 4, at + 5) if at >= 0 else None
