"""What can be computed for a run when asked, what it costs, and what becomes of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from textual.screen import Screen

from energylens.db.provenance import RunInfo, SaeInfo
from energylens.errors import EnergyLensError
from energylens.protocol import (
    CausalityRequest,
    EfasRequest,
    IndexRequest,
    LoadResult,
    VectorsRequest,
)
from energylens.queries.display import clock
from energylens.tui.fuzzy import Entry
from energylens.tui.lacks import GRADIENTS
from energylens.tui.modals.choose import Choose
from energylens.tui.notices import notify
from energylens.tui.state import RunPlace, workspace_of

_GRADIENT_COST = 4.0
"""A gradient over a token costs about so many readings of it."""
_CAUSALITY = CausalityRequest("", n_features=10, n_contexts=16)
_CAUSALITY_PASSES = 9
"""Passes an ablation takes over its contexts, backward ones counted twice."""


@dataclass(frozen=True)
class Offer:
    """One thing that can be computed."""

    title: str
    method: str
    request: object
    tokens: float
    """Readings of a token it costs, about."""


def offers(screen: Screen, place: RunPlace) -> Iterator[Offer]:
    """What the run in view lacks, or can have again."""
    state = workspace_of(screen).store.run(place.run)
    run = state.info
    if state.index != "fresh":
        yield Offer("make the index", "index", IndexRequest(), run.n_tokens / 4)
    if place.sae is not None:
        yield from _of_sae(run, place.sae)


def _of_sae(run: RunInfo, sae: SaeInfo) -> Iterator[Offer]:
    for variant in GRADIENTS:
        if variant not in run.efas:
            title = f"EFAS with the gradient {variant}"
            request = EfasRequest(sae.sae_id, variant)
            yield Offer(title, "efas", request, run.n_tokens * _GRADIENT_COST)
    passes = 2 * _CAUSALITY.n_features * _CAUSALITY.n_contexts * _CAUSALITY_PASSES
    yield Offer(
        f"what ablating {_CAUSALITY.n_features} features does to energies, beside predictions",
        "causality",
        CausalityRequest(sae.sae_id, _CAUSALITY.n_features, _CAUSALITY.n_contexts),
        passes * run.n_tokens / max(run.n_contexts, 1),
    )
    for what in ("activations", "gradients"):
        if what not in run.keep and f"{what} {sae.hook_name}" not in run.additions:
            request = VectorsRequest(what, sae.hook_name)
            yield Offer(f"keep dense {what} at {sae.hook_name}", "vectors", request, run.n_tokens)


def offer(screen: Screen, place: RunPlace) -> None:
    """Ask the worker what it costs, and the user what to compute; then compute it."""
    if not any(True for _ in offers(screen, place)):
        screen.notify(f"nothing is missing of {place.title} that the worker can make", markup=False)
        return
    screen.notify("asking the worker what it costs; 9 shows how far it is", markup=False)

    def choose(cost: LoadResult) -> None:
        listed = list(offers(screen, place))
        entries = [
            Entry(one.title, one, f"about {clock(one.tokens / cost.tokens_per_second)}")
            for one in listed
        ]
        title = f"Recompute for {place.title}"
        screen.app.push_screen(Choose(title, entries), chosen)

    def chosen(one: Offer | None) -> None:
        if one is not None:
            start(screen, place.run, one.title, one.method, one.request)

    workspace_of(screen).jobs.ask(
        screen, "what it costs", "load", place.run, {}, LoadResult, choose
    )


def start(screen: Screen, run: str, title: str, method: str, request: object) -> None:
    """Have the worker compute something into the store, and show it when it is there."""
    try:
        workspace_of(screen).jobs.keep(title, method, run, request)
    except EnergyLensError as error:
        notify(screen)(error)
        return
    screen.notify("under way; 9 shows how far it is", markup=False)
