"""Routing: how routers spread their tokens, what their choices tell, and the paths tokens take."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.queries.display import (
    number,
    show_probability,
    visible,
    visible_lines,
    visible_token,
)
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.queries.routing import (
    anchor_effects,
    anchor_features,
    anchor_load,
    anchor_specialization,
    anchor_tokens,
    path_tokens,
    routing_health,
    routing_paths,
)
from energylens.tui.address import Told
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.base import PEEK_AFTER
from energylens.tui.lacks import Lack, Wanted, why_no_health, why_nothing
from energylens.tui.previews import feature_preview
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.columns import (
    MOST_ROWS,
    label,
    numeric,
    probability,
    takes,
    text,
    whole,
)
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

Shown = Literal["choices", "paths", "features"]
_MOST_TOKENS = 16
_MOST_TAKEN = 5
"""Tokens a list shows of what an anchor takes."""
_ORDER: tuple[Shown, ...] = ("choices", "paths", "features")
_COLUMNS: dict[Shown, tuple[TableColumn, ...]] = {
    "choices": (
        whole("layer", "layer", 5),
        whole("choice_id", "anchor", 6),
        takes(),
        numeric("load", "load", 7),
        numeric("share_first", "first", 7),
        numeric("mean_weight", "weight", 7),
        numeric("mean_energy", "energy", 7),
        numeric("mean_energy_drop", "drop", 7),
        numeric("difference", "without", 8),
        text("top_category", "category", 14),
        numeric("category_lift", "lift", 6, 2),
        whole("n_vocab", "ids", 6),
    ),
    "paths": (
        takes(22),
        whole("n_tokens", "tokens", 7),
        numeric("t", "t", 7, 2),
        probability("q", "q"),
        numeric("lift", "lift", 7, 2),
        numeric("markov_lift", "markov", 7, 2),
        numeric("energy_drop", "drop", 7),
        numeric("energy_drop_error", "±", 6),
        whole("n_texts", "texts", 6),
    ),
    "features": (
        whole("layer", "layer", 5),
        whole("choice_id", "anchor", 6),
        whole("feature_id", "feature", 8),
        label(width=22),
        numeric("phi", "phi", 7),
        numeric("t", "t", 7, 2),
        probability("q", "q"),
        numeric("precision", "precis.", 7),
        numeric("recall", "recall", 7),
        numeric("lift", "lift", 7, 2),
        text("top_category", "category", 14),
    ),
}
_WANTED: dict[Shown, Wanted] = {
    "choices": "choices",
    "paths": "paths",
    "features": "anchor features",
}
_CHAIN = (
    whole("first_layer", "from", 5),
    TableColumn("choices", "anchors", 16, lambda v: " > ".join(str(c) for c in v)),
)
MOST_LAYERS = 8
"""Routed layers up to which a path has a column for each; beyond, its anchors stand in a row."""


@dataclass(frozen=True)
class _Found:
    """What the screen draws."""

    rows: pl.DataFrame
    health: pl.DataFrame
    told: pl.DataFrame
    lack: Lack | None
    """Why there are no rows."""
    no_health: Lack | None
    """Why the index says nothing of the routers' health."""


class RoutingScreen(AnalysisScreen):
    """One table of three; beside it the routers' health, or the tokens of a path."""

    FIGURES: ClassVar[dict[str, str]] = {
        "routing_efficiency": "how the routers spread their tokens",
        "anchor_specialization": "what the routers' first choices tell",
        "routing_circuits": "routing circuits",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "turn", "Turn", id="routing.turn", tooltip="Choices, paths, features"),
    ]
    HELP = """# Routing

**t** turns from the choices of the routers (anchors, experts) to the paths tokens take through the
layers (a column for each layer), and to the features that go with each choice. `t` holds a path
against layers that know nothing of each other but the token, text by text: routing is lexical, and
lift alone would call everything a circuit. Markov above 1 is structure beyond pairs of layers.
**drop** is the fall of the lens energy over the path, less that of all tokens. **without** is how
many nats an anchor's own tokens lose without it beyond what the others lose, once `energylens
routing` has measured that. **/** filters, **s** and **S** sort by the column under the cursor.
**enter** shows the tokens of a choice or a path, or opens a feature.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("routing")
        with Horizontal(id="routing"):
            yield VirtualTable(_COLUMNS["choices"], id="routes")
            with VerticalScroll(id="routing-about", classes="side", can_focus=False):
                yield Static("", id="routing-tokens", markup=False)
                yield Static("", id="routing-health", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._shown: Shown = "choices"
        self._rest: Timer | None = None

    def open(self, place: RunPlace) -> None:
        self.query_one("#routes").focus()
        run, sae, shown = place.run, place.sae, self._shown
        store = self.workspace.store

        def rows_of(session: Session) -> pl.DataFrame:
            if shown == "choices":
                return _loads(session, run)
            if shown == "paths":
                return routing_paths(session, run, k=MOST_ROWS)
            if sae is None:
                return pl.DataFrame()
            rows = anchor_features(session, run, sae.sae_id, k=MOST_ROWS)
            return with_meanings(session, rows, FeatureColumns(run, sae.sae_id))

        def question(session: Session) -> _Found:
            rows = rows_of(session)
            return _Found(
                rows,
                routing_health(session, run),
                anchor_specialization(session, run),
                None if len(rows) else why_nothing(session, store, place, _WANTED[shown]),
                why_no_health(session, store, place),
            )

        self.ask("routes", question, lambda found: self._answered(shown, found))

    def _answered(self, shown: Shown, found: _Found) -> None:
        rows, health = found.rows, found.health
        columns = _COLUMNS[shown]
        table, about = self.query_one("#routes", VirtualTable), self.query_one("#routing-about")
        self.show_lack(found.lack, table, about)
        if shown == "paths":
            layers = health["layer"].unique(maintain_order=True).to_list()
            rows, steps = by_layer(rows, layers) if len(layers) <= MOST_LAYERS else (rows, _CHAIN)
            columns = (*steps, *columns)
        self.show_rows(table, rows, columns)
        told = _health(health, found.told) if len(health) else _without_health(found.no_health)
        self.query_one("#routing-health", Static).update(told)
        self.query_one("#routing-tokens", Static).update("")
        turn = " / ".join(f"[{n}]" if n == shown else n for n in _ORDER)
        self.say(turn, f"{len(rows):,} rows")

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        place, row = self.here, self.row_of(event)
        if place is None or row is None:
            return
        selection = place.selection
        if "feature_id" not in row:  # the rows tell what they are: others may be on their way
            self._look(place, row)
        elif selection is not None:
            self.open_feature(selection, self.frame("routes")["feature_id"].to_list(), event.row)

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        if not self.query_one("#routing-about").display:
            return
        if self._rest is not None:
            self._rest.stop()
        self.workspace.tasks.cancel(self, "tokens")
        self._rest = self.set_timer(PEEK_AFTER, self._look_here)

    def _look_here(self) -> None:
        rows, row = self.frame("routes"), self.query_one("#routes", VirtualTable).cursor_row
        if self.here is not None and row < len(rows):
            self._look(self.here, rows.row(row, named=True))

    def panes_changed(self) -> None:
        self._look_here()

    def _look(self, place: RunPlace, row: dict) -> None:
        """Show the tokens of a choice or a path, or the feature of a row."""
        selection = place.selection
        if "feature_id" in row:
            pane = self.query_one("#routing-tokens", Static)
            if selection is not None:
                of = FeaturePlace(selection, int(row["feature_id"]))
                width = max(20, pane.size.width)
                self.ask("tokens", lambda s: feature_preview(s, width, of), pane.update)
        elif "first_layer" in row:
            self.ask(
                "tokens",
                lambda s: path_tokens(s, place.run, row["first_layer"], row["choices"]),
                lambda tokens: self._show_tokens(row, tokens),
            )
        else:
            self.ask(
                "tokens",
                lambda s: anchor_tokens(s, place.run, row["layer"], k=_MOST_TOKENS),
                lambda found: self._show_taken(row, found),
            )

    def _show_tokens(self, row: dict, tokens: pl.DataFrame) -> None:
        path = " > ".join(str(c) for c in row["choices"])
        self.query_one("#routing-tokens", Static).update(_tokens(path, tokens))
        if not self.query_one("#routing-about").display:
            first = tokens.row(0, named=True)
            before, after = visible(first["text_before"])[-20:], visible(first["text_after"])[:20]
            self.say(f"{path}: {before}[{visible_token(first['token'])}]{after}")

    def _show_taken(self, row: dict, found: pl.DataFrame) -> None:
        own = found.filter(
            (pl.col("router") == row["router"]) & (pl.col("choice_id") == row["choice_id"])
        )
        title = f"layer {row['layer']}, anchor {row['choice_id']}"
        if own.is_empty():
            told = f"{title} takes no token five times"
            self.query_one("#routing-tokens", Static).update(told)
            return
        tokens, shares = own["tokens"][0].to_list(), own["share_of_token"][0].to_list()
        self.query_one("#routing-tokens", Static).update(_taken(title, tokens, shares))
        if not self.query_one("#routing-about").display:
            self.say(f"{title} takes", " ".join(visible_token(token) for token in tokens))

    def address(self) -> Told:
        shown = None if self._shown == "choices" else self._shown
        return replace(super().address(), show=shown)

    def turn_to(self, told: Told) -> None:
        self._shown = cast("Shown", self.one_of(_ORDER, told.show))

    def action_turn(self) -> None:
        """Choices, paths, features, and round again."""
        self._shown = _ORDER[(_ORDER.index(self._shown) + 1) % len(_ORDER)]
        self.again()


def by_layer(
    paths: pl.DataFrame, layers: list[int]
) -> tuple[pl.DataFrame, tuple[TableColumn, ...]]:
    """Paths with a column for each routed layer: the anchor taken there, NULL where the path is
    not."""
    first = pl.col("first_layer").replace_strict(layers, range(len(layers)), return_dtype=pl.Int64)
    names = [f"L{layer}" for layer in layers]
    steps = [
        pl.col("choices").list.get(n - first, null_on_oob=True).alias(name)
        for n, name in enumerate(names)
    ]
    # a negative place would count from the end of the path
    inside = [pl.when(first <= n).then(step).alias(names[n]) for n, step in enumerate(steps)]
    return paths.with_columns(inside), tuple(whole(name, name, 3) for name in names)


def _loads(session: Session, run: str) -> pl.DataFrame:
    """Each choice with the tokens it takes, their classes, and what leaving it out does."""
    keys = ("layer", "router", "choice_id")
    taken = anchor_tokens(session, run, k=_MOST_TAKEN).select(*keys, "tokens", "classes")
    effects = anchor_effects(session, run).select(*keys, "difference")
    loads = anchor_load(session, run)
    for beside in (taken, effects):
        loads = loads.join(beside, on=keys, how="left", maintain_order="left")
    return loads


def _without_health(lack: Lack | None) -> Text:
    """Why nothing is said of the routers' health, and what would make it."""
    if lack is None:
        return Text("")
    command = f"\n\n{lack.remedy.command}" if lack.remedy else ""
    return Text(visible_lines(f"{lack.said}{command}"), "dim")


def _health(rows: pl.DataFrame, told: pl.DataFrame) -> Text:
    shown = Text()
    shown.append("routers\n", "bold")
    shown.append(
        f"{'':>3}{'conc.':>7}{'bal.':>7}{'info':>7}{'MaxVio':>8}{'dead':>6}{'rho E':>8}\n", "dim"
    )
    for row in rows.iter_rows(named=True):
        shown.append(
            f"{row['layer']:>3}{number(row['concentration']):>7}{number(row['balance']):>7}"
            f"{number(row['routing_information']):>7}{number(row['max_vio']):>8}"
            f"{row['n_dead']:>6}{number(row['energy_correlation']):>8}\n"
        )
    shown.append("\nbits the first choice tells, chance off; share; p\n", "bold")
    for layer in rows["layer"]:
        shown.append(f"layer {layer}\n", "dim")
        for row in told.filter(pl.col("layer") == layer).iter_rows(named=True):
            shown.append(
                f"  {row['label']:<21}{number(row['adjusted']):>7}"
                f"{number(row['normalized']):>7} {show_probability(row['p']).strip()}\n"
            )
    return shown


def _tokens(path: str, rows: pl.DataFrame) -> Text:
    shown = Text()
    shown.append(f"tokens that take {path}\n", "bold")
    for row in rows.iter_rows(named=True):
        shown.append(visible(row["text_before"] or "")[-18:], "dim")
        shown.append(visible_token(row["token"]), "reverse")
        shown.append(f"{visible(row['text_after'] or '')[:18]}\n", "dim")
    return shown


def _taken(title: str, tokens: list[str], shares: list[float]) -> Text:
    shown = Text()
    shown.append(f"{title} takes, with its share of each\n", "bold")
    for token, share in zip(tokens, shares, strict=True):
        shown.append(visible_token(token), "reverse")
        shown.append(f" {share:.0%}  ", "dim")
    return shown
