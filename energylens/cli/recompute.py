"""`energylens recompute`: add to a run what its ingest did not keep."""

from typing import Annotated

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import RunArgument, chosen_run
from energylens.errors import UsageError


def recompute(
    store: StoreArgument,
    run: RunArgument = None,
    keep: Annotated[
        str | None, typer.Option(help="activations or gradients, or both with a comma.")
    ] = None,
    hook: Annotated[list[str] | None, typer.Option(help="Where; may be repeated.")] = None,
    sae: Annotated[
        list[str] | None, typer.Option(help="An SAE to encode stored activations with.")
    ] = None,
    accept_gate: Annotated[
        bool, typer.Option("--accept-gate", help="Add the SAE though the gate refuses it.")
    ] = False,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Leave the index to `energylens index`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add dense vectors or another SAE to a finished run; only what is missing is computed.

    Another energy gradient is added by `energylens efas --variant`, and another threshold of what
    is strong is an argument of the query find_specialists.
    """
    need_models()
    from energylens.cli.ingest import index
    from energylens.ingest.on_request.additions import add_sae, add_vectors
    from energylens.ingest.progress import Progress

    if (keep is None) == (sae is None) or (keep is not None and not hook):
        raise UsageError("say what to add: --keep activations --hook HOOK, or --sae SAE")
    run = chosen_run(store, run)
    progress = Progress(as_json)
    n_shards = 0
    try:
        for what in (part.strip() for part in (keep or "").split(",") if part.strip()):
            for name in hook or ():
                n_shards += add_vectors(store, run, what, name, progress)
        for source in sae or ():
            sae_id, n = add_sae(store, run, source, accept_gate, progress)
            progress.say(f"added as {sae_id}" if n else f"the run has this SAE already: {sae_id}")
            n_shards += n
    finally:
        progress.close()
    typer.echo(f"{n_shards} shards were missing and have been made", err=True)
    if sae and not no_index:
        index(store, run_id=run, as_json=as_json)
