"""Where the program opens, as it is told on the command line or by a line that was copied."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from textual.app import App

from energylens.db.provenance import RunInfo
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.queries.graphs import pick_graph
from energylens.queries.masks import Unmasked
from energylens.queries.names import check_number, find_run, find_sae
from energylens.tui.address import PAGES, Page, Told
from energylens.tui.jump import ACTIONS, Jump, parse_jump
from energylens.tui.kinds.base import LensScreen
from energylens.tui.navigation import go_to
from energylens.tui.places import (
    Attention,
    Attribution,
    DictionaryMap,
    FeatureTexts,
    Graphs,
    Heads,
    Lab,
    Landscape,
    OneGraph,
    OneHead,
    Origins,
    Place,
    Prompt,
    Steering,
    TwoFeatures,
    TwoRuns,
    TwoSaes,
    WholeText,
    one_feature,
)
from energylens.tui.state import FeaturePlace, RunPlace, Selection, workspace_of

_NEEDS: dict[Page, tuple[str, ...]] = {
    "feature": ("feature",),
    "texts": ("feature",),
    "lab": ("feature", "prompt"),
    "steering": ("feature", "prompt"),
    "origins": ("feature", "token"),
    "text": ("text",),
    "landscape": ("text",),
    "head": ("head",),
    "attention": ("head", "token"),
    "attribution": ("token",),
}
"""What each page has to be told beside its name."""
_OF_STORE: tuple[Page, ...] = ("graphs", "graph")
"""Pages that are of the store, and of no run."""


@dataclass(frozen=True)
class Start:
    """What was told, looked up in a store."""

    place: RunPlace | None = None
    """None is the first run of the store with an SAE."""
    view: str | None = None
    opens: Place | None = None
    """What is open over the view."""
    unmasked: Unmasked | None = None
    told: Told = field(default_factory=Told)


def look_up(told: Told, store: Store) -> Start:
    """Where a store is opened.

    Raises:
        UsageError: a name or number stands for nothing in it, or two things exclude each other.
    """
    told = _with_map(told)
    view, page = _view(told), _page(told)
    if told == Told():
        return Start()
    if told.row == 0:
        raise UsageError("--row counts from 1")
    before, _, _ = (told.feature or "").rpartition(":")
    if before and told.sae is not None and before != told.sae:
        raise UsageError(f"--sae says '{told.sae}' and --feature says '{before}'; give one")
    sae = before or told.sae
    place = None
    if told.run is not None or sae is not None or page not in (None, *_OF_STORE):
        run = find_run(store.infos, told.run)
        found = find_sae(run, sae) if sae is not None else next(iter(run.saes), None)
        place = RunPlace(run.run_id, found)
    opens = None
    if page in _OF_STORE:
        opens = _of_store(page, told, store)
    elif page is not None and place is not None:
        opens = _Pages(told, place, store).of(page)
    return Start(place, view, opens, _unmasked(told), told)


def _of_store(page: Page, told: Told, store: Store) -> Place:
    if page == "graphs":
        return Graphs()
    if told.graph is None:
        raise UsageError("--page graph needs --graph too")
    return OneGraph(pick_graph(store, told.graph), told.node)


async def begin(app: App[Any], start: Start) -> None:
    """Go there."""
    workspace, told = workspace_of(app), start.told
    if start == Start():
        return
    if start.unmasked is not None:
        workspace.unmasked = start.unmasked
    if start.place is not None:
        workspace.look_at(start.place)
    if start.view is not None:
        await app.switch_mode(start.view)
    while len(app.screen_stack) > 1:
        await app.pop_screen()
    beneath = app.screen
    if start.opens is not None:
        await go_to(app, start.opens)
    shown = app.screen
    if not isinstance(shown, LensScreen) or not isinstance(beneath, LensScreen):
        return
    if shown is not beneath and not shown.HAS_LIST and told.of_list != Told():
        beneath.take(told.of_list)
    shown.take(told)


@dataclass(frozen=True)
class _Pages:
    """Finds the places that words name in a run."""

    told: Told
    place: RunPlace
    store: Store

    def of(self, page: Page) -> Place:
        """The place of a page."""
        told, run = self.told, self.place.run
        for name in _NEEDS.get(page, ()):
            if getattr(told, name) is None:
                raise UsageError(f"--page {page} needs --{name} too")
        match page:
            case "feature":
                return one_feature(self._feature)
            case "texts":
                return FeatureTexts(self._feature)
            case "lab":
                return Lab(self._feature, told.prompt or "")
            case "steering":
                return Steering(self._feature, told.prompt or "")
            case "origins":
                return Origins(self._feature, *self._token(told.token))
            case "text":
                return WholeText(run, self._text, self._shade)
            case "landscape":
                return Landscape(run, self._text, told.token)
            case "heads":
                return Heads(run)
            case "head":
                return self._head
            case "attention":
                context, to = self._token(told.token)
                return Attention(self._head, context, to, self._token(told.other_token)[1])
            case "prompt":
                return Prompt(run, told.prompt or "")
            case "attribution":
                return self._attribution
            case "comparison":
                return self._comparison
            case "map":
                feature = None if told.feature is None else self._feature.feature_id
                return DictionaryMap(self._selection, feature, told.filter or "")
            case "graphs" | "graph":
                return _of_store(page, told, self.store)

    @property
    def _selection(self) -> Selection:
        if self.place.selection is None:
            what = "--feature" if self.told.feature else f"--page {self.told.page}"
            raise UsageError(f"{what} asks for features, and this run has no SAE")
        return self.place.selection

    @property
    def _feature(self) -> FeaturePlace:
        return _numbered(self._selection, self.told.feature)

    @property
    def _shade(self) -> tuple[str, int] | None:
        if self.told.feature is None:
            return None
        feature = self._feature
        return feature.selection.sae.sae_id, feature.feature_id

    @property
    def _run(self) -> RunInfo:
        return self.store.run(self.place.run).info

    @property
    def _text(self) -> int:
        return check_number("text", self.told.text, self._run.n_texts, f"'{self.place.run}'")

    def _token(self, token_index: int | None) -> tuple[int, int]:
        """The context of a token, and its place there."""
        run = self._run
        n = run.n_contexts * run.n_ctx
        return divmod(check_number("token", token_index or 0, n, f"'{run.run_id}'"), run.n_ctx)

    @property
    def _head(self) -> OneHead:
        layer, _, head = (self.told.head or "").partition(".")
        if not (layer.isdecimal() and head.isdecimal()):
            raise UsageError(
                f"--head takes a layer and a head, such as 1.3, not '{self.told.head}'"
            )
        return OneHead(self.place.run, int(layer), int(head))

    @property
    def _attribution(self) -> Attribution:
        if self.told.prompt is not None:
            return Attribution(self._selection, self.told.token or 0, self.told.prompt)
        context, pos = self._token(self.told.token)
        return Attribution(self._selection, pos, context_id=context)

    @property
    def _comparison(self) -> TwoFeatures | TwoSaes | TwoRuns:
        told = self.told
        other = find_run(self.store.infos, told.other_run or self.place.run)
        if told.other_feature is None and told.other_sae is None:
            return TwoRuns(self.place.run, other.run_id)
        before, _, _ = (told.other_feature or "").rpartition(":")
        own = self._selection.sae.sae_id
        sae = find_sae(other, before or told.other_sae or own)
        beside = Selection(other.run_id, sae)
        if told.other_feature is None:
            return TwoSaes(self._selection, beside)
        return TwoFeatures(self._feature, _numbered(beside, told.other_feature))


def _numbered(selection: Selection, given: str | None) -> FeaturePlace:
    """A feature by its number, which may stand behind the name of its SAE."""
    _, _, number = (given or "").rpartition(":")
    sae = selection.sae
    return FeaturePlace(selection, check_number("feature", number, sae.d_sae, f"'{sae.sae_id}'"))


def _page(told: Told) -> Page | None:
    """What is open over the view: what is told, or what the other words ask for."""
    if told.page is not None:
        if told.page not in PAGES:
            raise UsageError(f"--page takes {_listed(PAGES)}, not '{told.page}'")
        return cast("Page", told.page)
    if told.other_feature or told.other_sae or told.other_run:
        return "comparison"
    asked: tuple[Page, ...] = ("graph", "head", "text", "prompt", "feature")
    return next((page for page in asked if getattr(told, page) is not None), None)


def _unmasked(told: Told) -> Unmasked | None:
    if told.unmask is None:
        return None
    known, wanted = [one.name for one in fields(Unmasked)], told.unmask.split(",")
    for name in wanted:
        if name not in known:
            raise UsageError(f"--unmask takes {_listed(known)}, not '{name}'")
    return Unmasked(**dict.fromkeys(wanted, True))


def _with_map(told: Told) -> Told:
    """The same, with the map told as the page that it is, where it is told as a view."""
    if told.view is None or parse_jump(told.view) != Jump("action", ACTIONS["map"]):
        return told
    return replace(told, view=None, page="map")


def _view(told: Told) -> str | None:
    """The view that is told, or that what is told belongs to."""
    if told.view is None:
        if told.statement is not None:
            return "sql"
        return "features" if told.filter is not None and told.page is None else None
    jump = parse_jump(told.view)
    if jump.kind != "view":
        raise UsageError(f"--view names a view, such as specialists or 3, not '{told.view}'")
    if told.statement is not None and jump.name != "sql":
        raise UsageError(f"--sql opens the view sql, not '{jump.name}'; leave out --view")
    return jump.name


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
