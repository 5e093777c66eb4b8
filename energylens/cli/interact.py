"""`energylens prompt`, `intervene`, `attribute`, `sources`, `steer`: recomputation by command."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import RunAndTextArgument, run_and_text
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.ingest.on_request.reopen import Reopened
    from energylens.ingest.progress import Progress
    from energylens.protocol import AttributionRequest

SaeOption = Annotated[
    str,
    typer.Option("--sae", help="The SAE, or the beginning of its name, where there are several."),
]
WhenOption = Annotated[
    str | None,
    typer.Option(
        help="Only at tokens where this holds: a feature, 285>2.0; one of another SAE, "
        "blocks.1:285>2.0; a probe of a category, python_probe or python_probe>0.9."
    ),
]
GainsOption = Annotated[
    Path | None,
    typer.Option("--gains", metavar="FILE", help="Gains of features, as energylens repair wrote."),
]
KeepOption = Annotated[bool, typer.Option(help="Store the result as a run of its own.")]


def prompt(
    store: StoreArgument,
    words: RunAndTextArgument,
    other: Annotated[str | None, typer.Option("--with", help="A text to compare with.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Features shown a token and SAE.")] = 3,
    gains: GainsOption = None,
    keep: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a text through a run's model and SAEs: tokens, energies, features, routing."""
    from energylens.cli.readings import print_prompt
    from energylens.protocol import PromptRequest

    run, text = run_and_text(store, words)
    second = None if other is None else _text(other)
    asked = PromptRequest(_text(text), second, top, keep, None if gains is None else str(gains))

    def answer(reopened: "Reopened", progress: "Progress"):
        from energylens.ingest.on_request.prompt import prompt as read

        return read(reopened, asked)

    _answer(store, run, as_json, answer, print_prompt)


def intervene(
    store: StoreArgument,
    words: RunAndTextArgument,
    feature: Annotated[
        list[int] | None, typer.Option(help="A feature to change; may be repeated.")
    ] = None,
    sae: SaeOption = "",
    gains: GainsOption = None,
    kind: Annotated[str, typer.Option(help="ablate, scale, clamp or add.")] = "ablate",
    value: Annotated[float, typer.Option(help="Factor, activation, or what is added.")] = 0.0,
    unit: Annotated[
        str, typer.Option(help="activation; max: of each feature's maximum; norm: of the stream.")
    ] = "activation",
    at: Annotated[list[int] | None, typer.Option(help="Only this position; repeatable.")] = None,
    when: WhenOption = None,
    seed: Annotated[int, typer.Option(help="Of the controls.")] = 0,
    keep: KeepOption = True,
    as_json: JsonOption = False,
) -> None:
    """Change features while a text runs; see energies, predictions, features and routing move,
    beside three controls: sign turned round, noise of the same norm, a feature of like strength."""
    from energylens.cli.readings import print_intervention
    from energylens.protocol import EditRequest, InterventionRequest
    from energylens.when import parse_when

    if (gains is None) == (not feature):
        raise UsageError("say what to change: --feature N, or --gains FILE in its place")
    run, text = run_and_text(store, words)
    condition = None if when is None else parse_when(when)

    def answer(reopened: "Reopened", progress: "Progress"):
        from energylens.ingest.on_request.intervene import intervene as change

        positions = None if at is None else tuple(at)
        if gains is not None:
            edit = EditRequest("", (), positions=positions, when=condition, gains=str(gains))
        else:
            name = _sae(reopened, sae)
            edit = EditRequest(name, tuple(feature or ()), kind, value, unit, positions, condition)
        return change(reopened, InterventionRequest(_text(text), edit, seed, keep))

    _answer(store, run, as_json, answer, print_intervention)


def attribute(
    store: StoreArgument,
    words: RunAndTextArgument,
    sae: SaeOption = "",
    at: Annotated[
        int, typer.Option(help="Position whose prediction is explained; -1 is the last.")
    ] = -1,
    token: Annotated[str | None, typer.Option(help="Predicted token; else the one after.")] = None,
    of_sae: Annotated[
        str | None, typer.Option(help="Explain a feature of this SAE, not a prediction.")
    ] = None,
    of_feature: Annotated[int | None, typer.Option(help="The feature to explain.")] = None,
    top: Annotated[int, typer.Option(min=0, help="Features ablated one by one.")] = 20,
    graph: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write an attribution graph, feature by feature and token by token, as "
            "circuit-tracer's JSON.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the features behind one prediction: direct logit attribution, gradient times
    activation, and exact ablation side by side, with their agreement."""
    from energylens.cli.readings import print_attribution
    from energylens.protocol import AttributionRequest

    run, text = run_and_text(store, words)

    def answer(reopened: "Reopened", progress: "Progress"):
        from energylens.ingest.on_request.attribute import attribute as explain

        asked = AttributionRequest(
            _text(text), _sae(reopened, sae), at, token, of_sae, of_feature, top
        )
        if graph is not None:
            _write_graph(reopened, asked, graph)
        return explain(reopened, asked, progress)

    _answer(store, run, as_json, answer, print_attribution)


def sources(
    store: StoreArgument,
    words: RunAndTextArgument,
    feature: Annotated[int, typer.Option(help="The feature that fired.")],
    sae: SaeOption = "",
    at: Annotated[int, typer.Option(help="Where it fired; -1 is the last token.")] = -1,
    as_json: JsonOption = False,
) -> None:
    """Find the tokens that made a feature of an attention-output SAE fire, and the heads that
    carried them: direct feature attribution through each head's values and output."""
    from energylens.cli.readings import print_sources
    from energylens.protocol import SourcesRequest

    run, text = run_and_text(store, words)

    def answer(reopened: "Reopened", progress: "Progress"):
        from energylens.ingest.on_request.attention import sources as take_apart

        asked = SourcesRequest(_sae(reopened, sae), feature, at, text=_text(text))
        return take_apart(reopened, asked, progress)

    _answer(store, run, as_json, answer, print_sources)


def steer(
    store: StoreArgument,
    words: RunAndTextArgument,
    feature: Annotated[list[int], typer.Option(help="A feature to steer by; may be repeated.")],
    sae: SaeOption = "",
    kind: Annotated[str, typer.Option(help="add or clamp.")] = "add",
    unit: Annotated[str, typer.Option(help="Of the strengths: activation, max or norm.")] = "max",
    strengths: Annotated[str, typer.Option(help="Separated by commas; 0 comes first.")] = "1,2",
    when: WhenOption = None,
    n_tokens: Annotated[int, typer.Option(min=1, help="New tokens at most.")] = 40,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Generate text with features held or added, several strengths beside the unsteered text."""
    from energylens.cli.readings import print_steering
    from energylens.protocol import EditRequest, SteeringRequest
    from energylens.when import parse_when

    run, prompt = run_and_text(store, words)
    condition = None if when is None else parse_when(when)

    def answer(reopened: "Reopened", progress: "Progress"):
        from energylens.ingest.on_request.steer import steer as write

        name = _sae(reopened, sae)
        edit = EditRequest(name, tuple(feature), kind, 0.0, unit, when=condition)
        asked = SteeringRequest(
            _text(prompt), edit, _numbers(strengths), n_tokens, temperature, seed
        )
        return write(reopened, asked, progress)

    _answer(store, run, as_json, answer, print_steering)


def _answer(
    store: Path,
    run: str,
    as_json: bool,
    answer: "Callable[[Reopened, Progress], Any]",
    show: Callable[[Any], None],
) -> None:
    need_models()
    from energylens.ingest.on_request.reopen import reopen
    from energylens.ingest.progress import Progress
    from energylens.wire import encode

    progress = Progress(as_json)
    try:
        found = answer(reopen(store, run), progress)
    finally:
        progress.close()
    if as_json:
        typer.echo(encode(found))
    else:
        show(found)


def _write_graph(reopened: "Reopened", asked: "AttributionRequest", path: Path) -> None:
    from energylens.ingest.exchange.attribution_graphs import graph_json
    from energylens.ingest.on_request.attribution_graph import attribution_graph
    from energylens.queries.writing import whole_file

    made = attribution_graph(reopened, asked, path.stem)
    with whole_file(path) as partial:
        partial.write_bytes(graph_json(made))
    typer.echo(f"the graph is in '{path}'", err=True)


def _text(given: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the text '{given[1:]}' cannot be read: {error}") from error


def _sae(reopened: "Reopened", given: str) -> str:
    from energylens.queries.names import find_sae

    return find_sae(reopened.run, given or None).sae_id


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--strengths takes numbers such as 1,2,4; not '{text}'") from None
