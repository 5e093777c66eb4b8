"""Where the program opens, as it is told on the command line."""

from dataclasses import dataclass

from textual.app import App

from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.queries.names import check_number, find_run, find_sae
from energylens.tui.jump import parse_jump
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.navigation import go_to
from energylens.tui.places import FilteredFeatures, one_feature
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.state import FeaturePlace, RunPlace, workspace_of


@dataclass(frozen=True)
class Told:
    """Words of the command line; None where nothing was told."""

    run: str | None = None
    sae: str | None = None
    view: str | None = None
    feature: str | None = None
    """A number, or an SAE and a number, as in `mlp:206`."""
    filter: str | None = None
    statement: str | None = None
    """SQL to begin with."""


@dataclass(frozen=True)
class Start:
    """The same, looked up in a store."""

    place: RunPlace | None = None
    """None is the first run of the store with an SAE."""
    view: str | None = None
    feature: int | None = None
    filter: str | None = None
    statement: str | None = None


def look_up(told: Told, store: Store) -> Start:
    """Where a store is opened.

    Raises:
        UsageError: a name or number stands for nothing in it, or two things exclude each other.
    """
    view = _view(told)
    before, _, number = (told.feature or "").rpartition(":")
    if before and told.sae is not None and before != told.sae:
        raise UsageError(f"--sae says '{told.sae}' and --feature says '{before}'; give one")
    sae = before or told.sae
    place = None
    if told.run is not None or sae is not None or told.feature is not None:
        run = find_run(store.infos, told.run)
        found = find_sae(run, sae) if sae is not None else next(iter(run.saes), None)
        place = RunPlace(run.run_id, found)
    feature = None
    if told.feature is not None:
        chosen = place.sae if place else None
        if chosen is None:
            raise UsageError("--feature asks for a feature, and this run has no SAE")
        feature = check_number("feature", number, chosen.d_sae, f"'{chosen.sae_id}'")
    return Start(place, view, feature, told.filter, told.statement)


async def begin(app: App[None], start: Start) -> None:
    """Go there."""
    if start.place is not None:
        workspace_of(app).look_at(start.place)
    if start.view is not None:
        await app.switch_mode(start.view)
    if start.filter is not None:
        if isinstance(app.screen, ListingScreen):
            await app.screen.filter_by(start.filter)
        else:
            await go_to(app, FilteredFeatures(start.filter))
    if start.statement is not None and isinstance(app.screen, SqlScreen):
        app.screen.begin_with(start.statement)
    selection = workspace_of(app).selection
    if start.feature is not None and selection is not None:
        await go_to(app, one_feature(FeaturePlace(selection, start.feature)))


def _view(told: Told) -> str | None:
    """The view that is told, or that what is told belongs to."""
    if told.view is None:
        return "sql" if told.statement is not None else None
    jump = parse_jump(told.view)
    if jump.kind != "view":
        raise UsageError(f"--view names a view, such as specialists or 3, not '{told.view}'")
    if told.statement is not None and jump.name != "sql":
        raise UsageError(f"--sql opens the view sql, not '{jump.name}'; leave out --view")
    return jump.name
