"""`energylens demo`, `energylens keys` and `energylens worker`."""

import gc
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.extras import need_models
from energylens.cli.screens import explore, has_terminal

DEMO_MODEL = "builtin:mesanet"
DEMO_TEXTS = "builtin:categories"


def demo(
    store: Annotated[Path, typer.Option(help="Where the demo's store goes.")] = Path("demo.lens"),
    no_tui: Annotated[
        bool, typer.Option("--no-tui", help="Print the findings; open no screen.")
    ] = False,
) -> None:
    """Ingest the bundled texts with the bundled model and SAEs, then open the TUI."""
    need_models()
    from energylens.cli.ingest import index, run_ingest
    from energylens.ingest.parts import Part
    from energylens.ingest.plan import IngestConfig

    config = IngestConfig(
        model=DEMO_MODEL,
        texts=DEMO_TEXTS,
        saes=(DEMO_MODEL,),
        efas=("lens", "total", "calibration"),
    )
    run_id = run_ingest(store, config, Part(), as_json=False)
    index(store)
    if no_tui or not has_terminal():
        from energylens.cli.findings import print_findings

        print_findings(store, run_id)
    else:
        explore(store)


def keys() -> None:
    """List every key of the TUI with the id that settings remap it by."""
    import polars as pl

    from energylens.cli.output import print_frame
    from energylens.queries.writing import Format
    from energylens.tui.app import bindings_by_id  # with the app, every screen has been imported

    listed = sorted(bindings_by_id().items())
    told = [(name, b.key, b.tooltip or b.description) for name, b in listed]
    print_frame(pl.DataFrame(told, schema=["id", "keys", "what"], orient="row"), Format.table)


def worker(
    schema: Annotated[
        bool, typer.Option("--schema", help="Print what can be asked, as OpenRPC; no more.")
    ] = False,
) -> None:
    """Answer requests of JSON-RPC 2.0 on stdin, one a line, until stdin ends: docs/worker.md."""
    if schema:
        from energylens.wire_schema import openrpc

        typer.echo(json.dumps(openrpc(), indent=1))
        return
    need_models()
    gc.disable()  # what is imported stays; it is enabled once that is done
    # a thread that waits for work sleeps: turning over meanwhile would take as much processor time
    # as the work, and on a machine with other work more time, too; texts here are short
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print between the answers
    from energylens.ingest.on_request.worker import Worker

    with open(0, "rb", closefd=False) as requests:
        Worker(requests, answers).serve()
    os._exit(0)  # the reading thread may wait on stdin for ever
