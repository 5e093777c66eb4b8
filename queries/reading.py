"""Decide whether a statement only reads, by everything that stands in it.

A statement passes when its whole tree is known and made of what reads. DuckDB hands out the tree
of a SELECT, which FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW and UNPIVOT are too. EXPLAIN is judged by
what it explains. A PIVOT that looks for its columns itself is three statements without a tree; it
is judged by its words. What passes still runs in a transaction that DuckDB keeps from writing, in
a catalogue confined to the store: three walls, each of which would do for most.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import duckdb

from energylens.errors import QueryError


def _named(words: str) -> frozenset[str]:
    return frozenset(words.split())


_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLES = {
    *("BASE_TABLE", "JOIN", "SUBQUERY", "TABLE_FUNCTION", "EXPRESSION_LIST"),
    *("EMPTY", "PIVOT", "SHOW_REF"),
}
_MODIFIERS = {
    *("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER", "DISTINCT_MODIFIER"),
    *("ORDER_DEFAULT", "ASCENDING", "DESCENDING"),
}
_READING_NODES = _QUERIES | _TABLES | _MODIFIERS
"""Nodes of a tree that are no expression (those name their class) and change nothing."""

_READING_TABLE_FUNCTIONS = _named(
    """duckdb_approx_database_count duckdb_available_metrics duckdb_columns duckdb_constraints
    duckdb_databases duckdb_dependencies duckdb_extensions duckdb_functions duckdb_indexes
    duckdb_keywords duckdb_logs duckdb_log_contexts duckdb_memory duckdb_optimizers duckdb_schemas
    duckdb_sequences duckdb_settings duckdb_table_sample duckdb_tables duckdb_temporary_files
    duckdb_types duckdb_variables duckdb_views generate_series glob icu_calendar_names json_each
    json_tree parquet_bloom_probe parquet_file_metadata parquet_full_metadata parquet_kv_metadata
    parquet_metadata parquet_scan parquet_schema pg_timezone_names pragma_collations
    pragma_database_size pragma_metadata_info pragma_platform pragma_show pragma_storage_info
    pragma_table_info pragma_user_agent pragma_version query_table range read_blob read_csv
    read_csv_auto read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson
    read_ndjson_auto read_ndjson_objects read_parquet read_text repeat repeat_row seq_scan 
    summary test_all_types test_vector_types unnest"""
)
_HARMLESS_EFFECTS = _named(
    """current_connection_id current_query current_query_id current_transaction_id error
    gen_random_uuid random stats txid_current uuid uuidv4 uuidv7 vector_type"""
)
"""Functions that give something else each time, and do nothing more."""

_FIRST = _named(
    """desc describe from pivot pivot_longer pivot_wider select show summarize table unpivot
    values with"""
)
_WRITING = _named("attach call copy create delete drop insert merge truncate update")
_DEEPEST = 500
"""Brackets in brackets. DuckDB's parser takes seconds over some thousand that nothing closes, and
hears no interruption meanwhile."""
_EXPLAIN_WORDS = frozenset(("analyze", "analyse", "verbose"))


class Reading(NamedTuple):
    """A statement that only reads."""

    text: str
    tree: Any
    """As DuckDB hands it out; None for EXPLAIN and for a PIVOT that has none."""


def reading_statement(con: duckdb.DuckDBPyConnection, text: str) -> Reading:
    """The one statement of a text, if it only reads.

    Raises:
        QueryError: it is no single statement, or does more than read; the message says what.
        duckdb.Error: it is no SQL.
    """
    try:
        _check_depth(text.encode().decode())
        statements = con.extract_statements(text)
    except UnicodeEncodeError:
        raise QueryError("the statement holds bytes that are no UTF-8") from None
    if len(statements) != 1:
        raise QueryError(
            "nothing to run" if not statements else "one statement at a time; run them in turn"
        )
    statement = statements[0].query
    return Reading(statement, _check(con, statement, _kind(statements[0])))


def _check_depth(text: str) -> None:
    depth = 0
    for word in _words(text):
        depth += (word.text == "(") - (word.text == ")")
        if depth > _DEEPEST:
            raise QueryError(
                f"the statement has more than {_DEEPEST} brackets in brackets; close some, or take "
                "it apart"
            )


def _kind(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type).rsplit(".", 1)[-1]
    except ValueError:  # a kind the Python client has no name for
        return "this statement"


def _check(con: duckdb.DuckDBPyConnection, statement: str, kind: str) -> Any:
    """The tree that was judged, where there is one."""
    if kind == "SELECT":
        tree = _tree(con, statement)
        _check_tree(tree)
        return tree
    if kind == "EXPLAIN":
        _check_explained(con, statement)
    elif kind == "MULTI":
        _check_words(statement)
    else:
        raise _refused(kind)
    return None


def _refused(what: str) -> QueryError:
    return QueryError(
        f"{what} is not run here: a store is read with SELECT, PIVOT, DESCRIBE, SUMMARIZE, SHOW "
        "and EXPLAIN of these only; to keep a result, export it"
    )


def _tree(con: duckdb.DuckDBPyConnection, statement: str) -> Any:
    found = con.execute("SELECT json_serialize_sql($text)", {"text": statement}).fetchone()
    tree = json.loads(found[0]) if found else {"error": True}
    if tree["error"]:
        raise _refused("a statement that DuckDB cannot take apart")
    return tree


def _check_tree(tree: Any) -> None:
    for node in nodes(tree):
        kind, group = node.get("type"), node.get("class")
        if isinstance(kind, str) and group is None and kind not in _READING_NODES:
            if kind.endswith("_TYPE_INFO"):
                continue  # of a type, as in CAST
            raise _refused(kind.removesuffix("_NODE").removesuffix("_QUERY"))
        name = node.get("function_name")
        if isinstance(name, str) and name.lower() in _acting_functions():
            raise _refused(f"{name}()")


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


@cache
def _acting_functions() -> frozenset[str]:
    """Functions of DuckDB that may do more than read, now or in a later version."""
    with duckdb.connect() as con:
        found = con.execute(
            "SELECT function_name, function_type, coalesce(has_side_effects, false) "
            "FROM duckdb_functions() WHERE function_type IN ('table', 'scalar', 'pragma')"
        ).fetchall()
    readers = {name for name, kind, has_effects in found if kind == "scalar" and not has_effects}
    known = _READING_TABLE_FUNCTIONS | _HARMLESS_EFFECTS | readers
    return frozenset(name for name, _, _ in found if name not in known) | {"getenv"}


def _check_explained(con: duckdb.DuckDBPyConnection, statement: str) -> None:
    """EXPLAIN does, with ANALYZE, what it explains."""
    words = _words(statement)
    written = statement.encode()
    for start in _explained(words):
        try:
            inner = con.extract_statements(written[words[start].place :].decode())
        except duckdb.ParserException:
            continue
        if len(inner) == 1:
            _check(con, inner[0].query, _kind(inner[0]))
            return
    raise _refused("EXPLAIN of what cannot be taken apart")


def _explained(words: list["_Word"]) -> Iterator[int]:
    """Which words what is explained may begin with: behind ANALYZE, and options in brackets."""
    start = 1
    while start < len(words) and words[start].text in _EXPLAIN_WORDS:
        start += 1
    if start < len(words):
        yield start
        closed = [n for n, word in enumerate(words[:-1]) if n > start and word.text == ")"]
        if words[start].text == "(" and closed:
            yield closed[0] + 1


def _check_words(statement: str) -> None:
    words = _words(statement)
    firsts = _explained(words) if words[0].text == "explain" else [0]
    if not any(_first(words[start:]) in _FIRST for start in firsts):
        raise _refused(words[0].text.upper())
    for word, following in zip(words, [*words[1:], _Word(0, "")], strict=True):
        if word.text in _WRITING:
            raise QueryError(
                f"a PIVOT with the word {word.text.upper()} in it is not run here, for it could "
                "write; if it is a name, put it in double quotes"
            )
        if following.text == "(" and _unquoted(word.text) in _acting_functions():
            raise _refused(f"{word.text}()")


def _first(words: list["_Word"]) -> str:
    """The first word, brackets aside."""
    return next((word.text for word in words if word.text != "("), "")


def _unquoted(word: str) -> str:
    return word.strip('"').replace('""', '"')


class _Word(NamedTuple):
    """A word of a statement."""

    place: int
    """Its first byte."""
    text: str
    """In lower case."""


def _words(statement: str) -> list[_Word]:
    """The words of a statement, without comments."""
    written = statement.encode()
    found = duckdb.tokenize(statement)
    if not found:
        return []
    ends = [*(place for place, _ in found[1:]), len(written)]
    return [
        _Word(place, written[place:end].decode(errors="replace").strip().lower())
        for (place, kind), end in zip(found, ends, strict=True)
        if kind != duckdb.token_type.comment
    ]
