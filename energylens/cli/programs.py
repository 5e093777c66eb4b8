"""`energylens demo`, `energylens tui`, `energylens worker` and `energylens doctor`."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.serve import is_in_browser, serve
from energylens.cli.sql import MemoryOption, TimeoutOption, given_limits
from energylens.errors import UsageError, install_command

DEMO_MODEL = "builtin:mesanet"
DEMO_TEXTS = "builtin:categories"
EXTRAS = {
    "models": (
        ("torch", "transformers", "transformer-lens", "sae-lens"),
        "making stores, training, and whatever runs a model: demo, ingest, train, prompt, "
        "intervene, attribute, steer, causality, efas, routing, heads, recompute, worker, and the "
        "tables that index reads off weights",
    ),
    "report": (
        ("matplotlib", "resvg_py"),
        "report: the figures of a run as a page; in the screens, figures and pictures as PNG",
    ),
    "web": (("textual-serve",), "tui --serve: the screens in a browser"),
}
"""The packages of each extra, and what it adds."""


def demo(
    store: Annotated[Path, typer.Option(help="Where the demo's store goes.")] = Path("demo.lens"),
    no_tui: Annotated[
        bool, typer.Option("--no-tui", help="Print the findings; open no screen.")
    ] = False,
) -> None:
    """Ingest the bundled texts with the bundled model and SAEs, then open the TUI."""
    need_models()
    from energylens.cli.ingest import index, run_ingest
    from energylens.ingest.plan import IngestConfig

    config = IngestConfig(
        model=DEMO_MODEL,
        texts=DEMO_TEXTS,
        saes=(DEMO_MODEL,),
        efas=("lens", "total", "calibration"),
    )
    run_id = run_ingest(store, config, "1/1", as_json=False)
    index(store)
    if no_tui or not _has_terminal():
        from energylens.cli.findings import print_findings

        print_findings(store, run_id)
    else:
        tui(store, None, None, in_browser=False, port=8000)


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
        str | None, typer.Option(help="The view to open: specialists, efas, ..., or its key.")
    ] = None,
    feature: Annotated[
        str | None,
        typer.Option(metavar="[SAE:]NUMBER", help="The feature whose page to open, over the view."),
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="What / would take, as in 'q<.05'.")
    ] = None,
    statement: Annotated[
        Path | None, typer.Option("--sql", help="A file with a statement to run in the SQL view.")
    ] = None,
) -> None:
    """Explore a store by keyboard; `--worker` computes what is asked for on another machine."""
    if in_browser:
        given = (
            *(("--worker", worker), ("--worker-store", worker_store)),
            *(("--timeout", f"{timeout:g}"), ("--memory", memory)),
            *(("--run", run), ("--sae", sae), ("--view", view), ("--feature", feature)),
            *(("--filter", filter_), ("--sql", statement and str(statement.resolve()))),
        )
        serve(store, port, [part for name, value in given if value for part in (name, value)])
        return
    if not is_in_browser():
        _need_terminal()
    from energylens.tui.app import WorkerPlace, run_tui
    from energylens.tui.start import Told

    own = WorkerPlace()
    command = own.command if worker is None else tuple(shlex.split(worker))
    text = None if statement is None else _statement(statement)
    told = Told(run, sae, view, feature, filter_, text)
    run_tui(store, WorkerPlace(command, worker_store), given_limits(timeout, memory), told)


def _statement(file: Path) -> str:
    """The SQL of a file."""
    if not file.is_file():
        raise UsageError(f"--sql takes a file with a statement; there is no file '{file}'")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read '{file}' as text: {error}") from error


def _need_terminal() -> None:
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "TERM=dumb has no screen; use energylens info, query and sql, "
            "or set TERM to what your terminal is"
        )
    if not _has_terminal():
        raise UsageError("the TUI needs a terminal; use energylens info, query and sql instead")


def keys() -> None:
    """List every key of the TUI with the id that settings remap it by."""
    import polars as pl

    from energylens.cli.output import print_frame
    from energylens.queries.writing import Format
    from energylens.tui.app import bindings_by_id  # with the app, every screen has been imported

    listed = sorted(bindings_by_id().items())
    told = [(name, b.key, b.tooltip or b.description) for name, b in listed]
    print_frame(pl.DataFrame(told, schema=["id", "keys", "what"], orient="row"), Format.table)


def worker() -> None:
    """Answer requests on stdin, one JSON object a line, until stdin ends; see docs/worker.md."""
    need_models()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print between the answers
    from energylens.ingest.on_request.worker import Worker

    with open(0, "rb", closefd=False) as requests:
        Worker(requests, answers).serve()
    os._exit(0)  # the reading thread may wait on stdin for ever


def _has_terminal() -> bool:
    """Keys come from stdin; Textual draws on stderr."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


def doctor() -> None:
    """Check what is installed here and whether the bundled model runs."""
    import platform
    import shutil
    from importlib.metadata import version

    typer.echo(f"Python {platform.python_version()} on {platform.platform()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = shutil.disk_usage(Path.cwd()).free
    typer.echo(f"{cores} cores, {free / 1e9:.0f} GB free here, TERM={os.environ.get('TERM', '')}")
    from energylens.tui.settings import settings_path

    typer.echo(f"settings {settings_path()}")
    for package in ("duckdb", "pyarrow", "polars", "textual"):
        typer.echo(f"  {package} {version(package)}")
    missing = [extra for extra in EXTRAS if not _tell_extra(extra)]
    if "models" not in missing:
        _try_builtin()


def _tell_extra(extra: str) -> bool:
    """Print an extra's packages with their versions; or what it would add, and then false."""
    from importlib.metadata import PackageNotFoundError, version

    packages, adds = EXTRAS[extra]
    found = []
    for package in packages:
        try:
            found.append(f"  {package} {version(package)}")
        except PackageNotFoundError:
            typer.echo(f"  {package} is not installed: the extra '{extra}' adds {adds}")
            typer.echo(f"    {install_command(extra)}")
            return False
    typer.echo("\n".join(found))
    return True


def _try_builtin() -> None:
    from energylens.lens.energy import lens_energies
    from energylens.lens.models import load_model, run_hooks

    import torch  # isort: skip

    model = load_model(DEMO_MODEL)
    ids = torch.tensor([model.tokenizer.encode("The energy of a token is its surprise.")])
    last = model.resid_post(model.n_layers - 1)
    logits, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    assert logits is not None, "the pass was not stopped early"
    found = lens_energies(model.readout, cache[last][0, :-1], ids[0, 1:]).energy
    direct = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
    gap = float((found - direct).abs().max())
    typer.echo(f"  {DEMO_MODEL} runs; lens and model agree to {gap:.1e} nats")
    if gap > 1e-4:
        raise UsageError("the lens disagrees with the model: the installation is broken")
