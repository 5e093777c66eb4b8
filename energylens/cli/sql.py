"""`energylens sql`, `energylens queries` and `energylens query`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.arguments import ColumnsOption, PagerOption, StoreArgument
from energylens.errors import QueryError, RunawayError

if TYPE_CHECKING:
    from energylens.db.limits import Limits

FormatOption = Annotated[
    str, typer.Option("--format", "-f", help="table, csv, json, parquet or markdown.")
]
TimeoutOption = Annotated[
    float, typer.Option(min=0, help="Seconds a query may take; 0 lets it run for ever.")
]
MemoryOption = Annotated[
    str, typer.Option(help="Memory a query may take, as in 2GB, 512MiB, or 25% of the machine's.")
]
LimitOption = Annotated[int, typer.Option(min=0, help="Most rows; 0 takes all.")]


def sql(
    store: StoreArgument,
    query: Annotated[
        str | None, typer.Argument(help="One SELECT; read from stdin where left out.")
    ] = None,
    how: FormatOption = "table",
    columns: ColumnsOption = None,
    pager: PagerOption = False,
    limit: LimitOption = 1000,
    timeout: TimeoutOption = 300,
    memory: MemoryOption = "50%",
) -> None:
    """Run one SQL statement that reads, and print its rows."""
    from energylens.cli.output import View, print_frame
    from energylens.db.store import confine
    from energylens.queries.adhoc import ask
    from energylens.queries.catalog import open_catalog

    form = checked_format(how)
    text = query if query is not None else _from_stdin()
    limits = given_limits(timeout, memory)
    with open_catalog(store, limits) as opened:
        confine(opened)
        try:
            result = ask(opened, text, limit or None, limits)
        except RunawayError as error:
            typer.echo(f"energylens: {error}", err=True)
            sys.stderr.flush()
            os._exit(error.exit_code)  # nothing less ends what does not heed an interrupt
    print_frame(result.rows, form, View(columns, pager))
    if result.is_cut:
        typer.echo(f"cut at {limit:,} rows; --limit 0 takes all", err=True)


def search(
    store: StoreArgument,
    words: Annotated[str, typer.Argument(help="Words, or a piece of a token.")],
    run: Annotated[str | None, typer.Option(help="The run, where there are several.")] = None,
    sae: Annotated[str | None, typer.Option(help="One SAE; all of the run otherwise.")] = None,
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="Most features.")] = 20,
    how: FormatOption = "table",
    columns: ColumnsOption = None,
    pager: PagerOption = False,
) -> None:
    """Find features by words: what they are said to stand for, fire on, promote, stand in."""
    from energylens.cli.output import View, print_frame
    from energylens.queries.catalog import call, open_catalog

    form = checked_format(how)
    with open_catalog(store) as opened:
        rows = call(opened, "search_features", run=run, words=words, in_sae=sae, k=k)
    print_frame(rows, form, View(columns, pager))


def given_limits(timeout: float, memory: str) -> "Limits":
    """What the options allow a query."""
    from energylens.db.limits import Limits, parse_memory

    return Limits(timeout or None, parse_memory(memory))


def queries(
    store: Annotated[
        Path | None, typer.Argument(metavar="[STORE]", help="A store, to see its tables too.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Show one query with its SQL.")] = None,
) -> None:
    """List the named queries, and with a store its tables."""
    from energylens.queries.catalog import named_queries, named_query, open_catalog, usage

    if name is not None:
        shown = named_query(name)
        typer.echo(f"-- {shown.doc}\n{shown.sql}")
        return
    for query_ in named_queries().values():
        typer.echo(f"{usage(query_)}\n    {query_.doc}")
    if store is not None:
        with open_catalog(store) as opened:
            tables = opened.cursor().execute(
                "SELECT view_name, comment FROM duckdb_views() "
                "WHERE schema_name = 'main' AND NOT internal ORDER BY view_name"
            )
            for table, comment in tables.fetchall():
                typer.echo(f"{table}\n    {comment}")


def query(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(help="A name from `energylens queries`.")],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its parameters.")
    ] = None,
    how: FormatOption = "table",
    columns: ColumnsOption = None,
    pager: PagerOption = False,
) -> None:
    """Run a named query. `run` and `sae` may be left out where the store has only one, and may be
    the beginning of a name."""
    from energylens.cli.output import View, print_frame
    from energylens.queries.catalog import call, named_query, open_catalog

    form = checked_format(how)
    named_query(name)  # said before the store is opened
    given = _pairs(values or [])
    with open_catalog(store) as opened:
        rows = call(opened, name, **given)
    print_frame(rows, form, View(columns, pager))


def _pairs(values: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in values:
        key, equals, value = pair.partition("=")
        if not equals:
            raise QueryError(f"parameters are given as key=value; '{pair}' is not")
        if key in found:
            raise QueryError(f"'{key}' is given twice")
        found[key] = None if value == "NULL" else value
    return found


def checked_format(how: str):
    from energylens.queries.writing import Format

    try:
        return Format(how)
    except ValueError:
        raise QueryError(f"--format takes {', '.join(Format)}; not '{how}'") from None


def _from_stdin() -> str:
    if sys.stdin.isatty():
        raise QueryError('give a query: energylens sql STORE "SELECT ..."')
    return sys.stdin.read()
