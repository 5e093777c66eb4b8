"""`energylens tui`: a store in a terminal, or in a browser."""

import gc
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.serve import is_in_browser, serve
from energylens.cli.sql import MemoryOption, TimeoutOption, given_limits
from energylens.db.limits import Limits
from energylens.errors import UsageError
from energylens.tui.address import Told, arguments, statement_in


def tui(
    store: StoreArgument,
    worker: Annotated[
        str | None,
        typer.Option(help="Command that starts the worker, as in 'ssh box energylens worker'."),
    ] = None,
    worker_store: Annotated[
        str | None, typer.Option(help="The store's path on the worker's machine, if another.")
    ] = None,
    in_browser: Annotated[
        bool, typer.Option("--serve", help="In a browser on this machine, not in the terminal.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where --serve is reached.")] = 8000,
    timeout: TimeoutOption = 300,
    memory: MemoryOption = "50%",
    run: Annotated[str | None, typer.Option(help="The run to open, or its beginning.")] = None,
    sae: Annotated[str | None, typer.Option(help="The SAE to look at.")] = None,
    view: Annotated[
        str | None, typer.Option(help="The view to open: specialists, map, ..., or its key.")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(help="What to open over the view, where other options do not say it."),
    ] = None,
    feature: Annotated[
        str | None,
        typer.Option(metavar="[SAE:]NUMBER", help="The feature whose page to open, over the view."),
    ] = None,
    text: Annotated[int | None, typer.Option(min=0, help="The text to open.")] = None,
    token: Annotated[int | None, typer.Option(min=0, help="The token for the cursor.")] = None,
    head: Annotated[
        str | None, typer.Option(metavar="LAYER.HEAD", help="The attention head to open.")
    ] = None,
    graph: Annotated[str | None, typer.Option(help="The attribution graph to open.")] = None,
    node: Annotated[str | None, typer.Option(help="The graph's node for the cursor.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A text of your own to read.")] = None,
    other_run: Annotated[str | None, typer.Option(help="A run to hold beside.")] = None,
    other_sae: Annotated[str | None, typer.Option(help="An SAE to hold beside.")] = None,
    other_feature: Annotated[
        str | None, typer.Option(metavar="[SAE:]NUMBER", help="A feature to hold beside.")
    ] = None,
    other_token: Annotated[int | None, typer.Option(min=0, help="The token looked at.")] = None,
    category: Annotated[str | None, typer.Option(help="The category of texts.")] = None,
    show: Annotated[
        str | None, typer.Option(help="Which of its lists a view shows, as in tokens, clusters.")
    ] = None,
    unmask: Annotated[
        str | None, typer.Option(help="Masked tokens to count: special,first,sinks.")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="What / would take, as in 'q<.05'.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="The column to sort by; --sort=-score for downwards.")
    ] = None,
    row: Annotated[int | None, typer.Option(min=1, help="The row for the cursor.")] = None,
    pane: Annotated[str | None, typer.Option(help="Which of several lists is meant.")] = None,
    file: Annotated[
        Path | None, typer.Option("--sql", help="A file with a statement to run in the SQL view.")
    ] = None,
    statement: Annotated[
        str | None, typer.Option(metavar="SQL", help="A statement to run in the SQL view.")
    ] = None,
) -> None:
    """Explore a store by keyboard; `--worker` computes what is asked for on another machine.

    The options from --run on say where to open; `@` in the program tells those of what is seen.
    """
    if file is not None and statement is not None:
        raise UsageError("--sql and --statement both give a statement; give one")
    told = Told(
        run, sae, view, page, feature, text, token, head, graph, node, prompt, other_run,
        other_sae, other_feature, other_token, category, show, unmask, filter_, sort, row, pane,
        statement if file is None else statement_in(file),
    )  # fmt: skip
    if in_browser:
        given = (
            *(("--worker", worker), ("--worker-store", worker_store)),
            *(("--timeout", f"{timeout:g}"), ("--memory", memory)),
        )
        own = [part for name, value in given if value for part in (name, value)]
        serve(store, port, [*own, *arguments(told)])
    else:
        command = None if worker is None else shlex.split(worker)
        explore(store, command, worker_store, given_limits(timeout, memory), told)


def explore(
    store: Path,
    worker: list[str] | None = None,
    worker_store: str | None = None,
    limits: Limits | None = None,
    told: Told | None = None,
) -> None:
    """Show a store in this terminal, and end the process.

    Raises:
        UsageError: there is no terminal, or what is told cannot be found.
        StoreError: there is no such store, or it cannot be read.
    """
    if not is_in_browser():
        _need_terminal()
    gc.disable()  # what is loaded now stays; the program looks for garbage once it is on the screen
    from energylens.db.version import check_format

    check_format(store)  # before anything heavy is loaded
    from energylens.db.store import confine
    from energylens.queries.catalog import open_catalog

    with open_catalog(store, limits) as opened:
        confine(opened)
        from energylens.tui.app import WorkerPlace, run_tui

        place = WorkerPlace(store=worker_store)
        if worker is not None:
            place = WorkerPlace(tuple(worker), worker_store)
        status = run_tui(opened, place, told)
    sys.stdout.flush()
    sys.stderr.flush()
    # at once: a thread may still wait for a query that was interrupted, and at the end of the
    # interpreter DuckDB's binding would report, page after page, what that holds
    os._exit(status)


def _need_terminal() -> None:
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "TERM=dumb has no screen; use energylens info, query and sql, "
            "or set TERM to what your terminal is"
        )
    if not has_terminal():
        raise UsageError("the TUI needs a terminal; use energylens info, query and sql instead")


def has_terminal() -> bool:
    """Keys come from stdin; Textual draws on stderr."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
