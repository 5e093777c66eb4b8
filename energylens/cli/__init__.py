"""The command `energylens`. Each command imports what it needs when it runs, and no more."""

import os
import sys
import traceback
from typing import Annotated, Any

import typer

import energylens
from energylens.cli import (
    agents,
    analyses,
    doctor,
    explain,
    export,
    heads,
    imports,
    ingest,
    interact,
    page,
    presets,
    programs,
    recompute,
    repair,
    report,
    routing,
    saes,
    screens,
    signals,
    sql,
    stores,
    terminal,
    train,
)
from energylens.cli.failures import said_of
from energylens.cli.groups import Commands
from energylens.errors import PlatformError


class _Energylens(Commands):
    """Turns errors into a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            sys.stderr.close()  # the reader has gone; nothing is left to say
            raise typer.Exit(0) from None
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise
            if ctx.params.get("debug"):
                traceback.print_exc()
            code, message = said_of(error)
            typer.echo(f"energylens: {message}", err=True)
            raise typer.Exit(code) from None


app = typer.Typer(
    cls=_Energylens,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look inside a language model: SAE features and energies, in a terminal and in SQL.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"energylens {energylens.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options that stand before a command."""
    if sys.platform == "win32":
        raise PlatformError


app.command()(programs.demo)
app.command()(ingest.ingest)
app.command()(ingest.index)
app.command()(presets.presets)
app.command()(stores.info)
app.command()(stores.verify)
app.command()(stores.merge)
app.command()(screens.tui)
app.command()(programs.keys)
app.command()(sql.sql)
app.command()(sql.queries)
app.command()(sql.query)
app.command()(sql.search)
app.add_typer(explain.app, name="explain")
app.command()(page.page)
app.command()(report.report)
app.command()(analyses.compare)
app.command()(analyses.efas)
app.command()(analyses.causality)
app.command()(repair.repair)
app.command()(routing.routing)
app.command()(heads.heads)
app.command()(recompute.recompute)
app.command()(interact.prompt)
app.command()(interact.intervene)
app.command()(interact.attribute)
app.command()(interact.sources)
app.command()(interact.steer)
app.command()(programs.worker)
app.command()(agents.mcp)
app.add_typer(train.app, name="train")
app.add_typer(saes.app, name="saes")
app.add_typer(export.app, name="export")
app.add_typer(imports.app, name="import")
app.command()(doctor.doctor)


def main() -> None:
    """Run the command."""
    # torch gives large arrays back at once and takes new ones page by page; in pages of 2 MB that
    # is up to half of a training step less. It reads this when it makes its first array.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    terminal.guard()
    signals.listen()
    app(prog_name="energylens")
