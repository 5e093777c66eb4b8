"""`energylens demo`, `energylens keys`, `energylens worker` and `energylens doctor`."""

import gc
import os
from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.extras import need_models
from energylens.cli.screens import explore, has_terminal
from energylens.errors import UsageError, install_command

DEMO_MODEL = "builtin:mesanet"
DEMO_TEXTS = "builtin:categories"
EXTRAS = {
    "models": (
        ("torch", "transformers", "transformer-lens", "sae-lens"),
        "making stores, training, and whatever runs a model: demo, ingest, train, prompt, "
        "intervene, attribute, steer, causality, repair, efas, routing, heads, recompute, worker, "
        "and the tables that index reads off weights",
    ),
    "report": (
        ("matplotlib",),
        "report: the figures of a run as a page; in the screens, figures as SVG and PNG",
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


def worker() -> None:
    """Answer requests on stdin, one JSON object a line, until stdin ends; see docs/worker.md."""
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
