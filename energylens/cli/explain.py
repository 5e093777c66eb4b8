"""`energylens explain`: read explanations of features, let a model write some, judge any."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.groups import Commands
from energylens.cli.names import RunArgument, chosen_run, run_and_files
from energylens.cli.speakers import AskedModel, EndpointOption, ModelOption, asked_model
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.db.store import Store
    from energylens.ingest.on_request.explain import Forecast, Outcome, Task


class _Explain(Commands):
    """Reads files where no other command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["read", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Explain,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Features in words: read from files (energylens explain STORE [RUN] FILE...), written by "
    "a language model, judged by one.",
)


@app.command()
def read(
    store: StoreArgument,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] FILE...",
            help="JSONL, JSON, CSV or Parquet: Neuronpedia's exports, or your own; before them the "
            "run, or the beginning of its name, where there are several.",
        ),
    ],
    sae: Annotated[
        str | None, typer.Option(help="The SAE; needed where the run has several.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of those the SAE has, not beside them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take in explanations of features in words: columns feature_id (or index) and description,
    and if there are any, method, model and score. Lists and filters show the best as `label`."""
    from energylens.ingest.explanations import explain as take_in
    from energylens.queries.catalog import open_catalog, write_catalog

    run, files = run_and_files(store, words)
    with open_catalog(store) as opened:
        info, layout = opened.run(run).info, opened.layout.run(run)
    done = take_in(layout, info, files, sae, replace)
    write_catalog(store)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    left = f"; {done.n_elsewhere:,} rows are about other SAEs" if done.n_elsewhere else ""
    typer.echo(
        f"{done.n_explanations:,} explanations of {done.n_features:,} features of "
        f"'{done.sae_id}'{left}",
        err=True,
    )


SaeOption = Annotated[str | None, typer.Option(help="The SAE; needed where the run has several.")]
FeatureOption = Annotated[
    list[int] | None, typer.Option(help="Only this feature; may be repeated.")
]
TopOption = Annotated[
    int,
    typer.Option(min=1, help="How many features: those active in most texts, but for dense ones."),
]
EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="Say what it will cost, and ask nothing.")
]


@app.command()
def write(
    store: StoreArgument,
    run: RunArgument = None,
    sae: SaeOption = None,
    model: ModelOption = None,
    endpoint: EndpointOption = None,
    feature: FeatureOption = None,
    top: TopOption = 20,
    with_scores: Annotated[
        bool, typer.Option("--score/--no-score", help="Judge each by detection and fuzzing too.")
    ] = True,
    estimate: EstimateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a language model explain features from half of the texts, and judge what it says on the
    other half. Each feature is kept at once; the same command asks for the rest."""
    from energylens.explaining.scoring import KINDS
    from energylens.ingest.on_request.explain import features_to_explain, tasks_to_write

    def tasks(opened: "Store", run_id: str, sae_id: str, name: str) -> "list[Task]":
        features = features_to_explain(opened, run_id, sae_id, feature or [], top)
        kinds = KINDS if with_scores else ()
        return tasks_to_write(opened, run_id, sae_id, features, name, kinds)

    _ask(store, run, sae, asked_model(model, endpoint), tasks, estimate, as_json)


@app.command()
def score(
    store: StoreArgument,
    run: RunArgument = None,
    sae: SaeOption = None,
    model: ModelOption = None,
    endpoint: EndpointOption = None,
    feature: FeatureOption = None,
    top: TopOption = 20,
    method: Annotated[
        str | None,
        typer.Option(help="Only explanations by this method, such as tokens; all if left out."),
    ] = None,
    estimate: EstimateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a language model judge explanations, whoever wrote them: by detection and fuzzing on
    excerpts of half of the texts, as many with the feature active as without."""
    from energylens.ingest.on_request.explain import tasks_to_score

    def tasks(opened: "Store", run_id: str, sae_id: str, name: str) -> "list[Task]":
        return tasks_to_score(opened, run_id, sae_id, feature or [], top, method, name)

    _ask(store, run, sae, asked_model(model, endpoint), tasks, estimate, as_json)


def _ask(
    store: Path,
    run: str | None,
    sae: str | None,
    asked: AskedModel,
    tasks_of: "Callable[[Store, str, str, str], list[Task]]",
    is_estimate: bool,
    as_json: bool,
) -> None:
    """Say what it costs, do it, and show what came of it."""
    from energylens.db.index_files import index_state
    from energylens.ingest.on_request.excerpts import Excerpts
    from energylens.ingest.on_request.explain import carry_out, forecast
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog, write_catalog
    from energylens.queries.names import find_sae

    run_id = chosen_run(store, run)
    with open_catalog(store) as opened:
        known = opened.run(run_id)
        sae_id = find_sae(known.info, sae).sae_id
        layout = opened.layout.run(run_id)
        if index_state(layout) == "missing":
            raise UsageError(f"'{run_id}' has no index; make it with: energylens index {store}")
        tasks = tasks_of(opened, run_id, sae_id, asked.name)
        excerpts = Excerpts(opened, run_id, sae_id)
        cost = forecast(excerpts, tasks)
        _say_cost(cost, asked, is_estimate and as_json)
        if is_estimate:
            return
        if not tasks:
            typer.echo(
                f"nothing is left to ask '{asked.name}': energylens query {store} "
                "scored_explanations shows what it said",
                err=True,
            )
            return
        speaker, progress = asked.open(), Progress(as_json)
        try:
            done = carry_out(layout, sae_id, excerpts, speaker, tasks, progress)
        finally:
            progress.close()
            write_catalog(store)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
    else:
        features = {task.feature_id for task in tasks}
        _show(store, run_id, sae_id, asked.name, features, done)


def _say_cost(cost: "Forecast", asked: AskedModel, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(cost)))
        return
    where = f" at {asked.endpoint}" if asked.endpoint else ""
    typer.echo(
        f"'{asked.name}'{where}: {cost.n_features:,} features, {cost.n_calls:,} questions, about "
        f"{cost.n_tokens_in:,} tokens asked and at most {cost.n_tokens_out:,} answered",
        err=True,
    )


def _show(
    store: Path, run_id: str, sae_id: str, judge: str, features: set[int], done: "Outcome"
) -> None:
    """What is known of the features' explanations by now."""
    from energylens.cli.output import print_frame
    from energylens.queries.catalog import open_catalog
    from energylens.queries.explanations import judged_explanations
    from energylens.queries.writing import Format

    with open_catalog(store) as opened:
        rows = judged_explanations(opened, run_id, sae_id, sorted(features), judge)
    print_frame(rows, Format.table)
    for n, what in (
        (done.n_unread, "no explanation could be read from the answers"),
        (done.n_without_excerpts, "they are silent in the texts that explanations are made from"),
    ):
        if n:
            typer.echo(f"{n:,} features have none: {what}", err=True)
    typer.echo(
        f"{done.n_written:,} written; scores are balanced accuracies of '{judge}', chance "
        ".5, in 95 % intervals over texts",
        err=True,
    )
