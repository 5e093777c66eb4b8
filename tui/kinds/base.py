"""What every screen has: the workspace, a width class, and a way back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen

from energylens.queries.display import counted
from energylens.tui.address import Told, line_of
from energylens.tui.export import (
    ViewFigure,
    Way,
    export,
    figure_ways,
    list_way,
    shown_table,
    take_in_list,
)
from energylens.tui.modals.address import AddressModal
from energylens.tui.modals.cannot import Cannot
from energylens.tui.modals.cell import CellModal
from energylens.tui.modals.choose_sae import ChooseSae
from energylens.tui.modals.columns import Columns, ColumnsModal, as_told, from_told, place_in
from energylens.tui.modals.describe import DescribeModal
from energylens.tui.modals.frequency import FrequencyModal, frequencies
from energylens.tui.places import Open, Place
from energylens.tui.recompute import offer
from energylens.tui.settings import keep_columns, settings_path
from energylens.tui.state import RunPlace, Selection, Workspace, workspace_of
from energylens.tui.widgets.panes import show_next_alone, widen_side
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.virtual_table import VirtualTable

WIDE = 120
"""Columns from which panes stand side by side."""
PEEK_AFTER = 0.1
"""Seconds the cursor rests before what is under it is looked up: held keys stay cheap."""


class LensScreen(Screen[None]):
    """A screen of Energy-Lens."""

    FIRST_COLUMNS: ClassVar[dict[str, tuple[str, ...]]] = {}
    """By the id of a list: columns that stand before the others, unless settings say otherwise."""
    FIGURES: ClassVar[dict[str, str]] = {}
    """Figures of a report that show what the screen is about: their names, and what they show."""
    HAS_LIST: ClassVar[bool] = False
    """Whether words of a list are for this screen, and not for the view it stands on."""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012 - Textual's own type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "Back", id="app.back", tooltip="One level back"),
        Binding("r", "recompute", "Recompute", show=False, id="app.recompute"),
        Binding("e", "export", "Export", show=False, id="app.export", tooltip="Write a file"),
        Binding(
            "R", "read_again", "Read again", show=False, id="app.read_again", tooltip="The store"
        ),
        Binding("I", "describe", "Describe", show=False, id="table.describe", tooltip="The column"),
        Binding(
            "O", "columns", "Columns", show=False, id="table.columns", tooltip="Choose columns"
        ),
        Binding("z", "zoom", "Pane", id="app.zoom", tooltip="One pane alone, the next, all"),
        Binding("greater_than_sign", "widen(1)", "Wider", show=False, id="app.wider"),
        Binding("less_than_sign", "widen(-1)", "Narrower", show=False, id="app.narrower"),
        Binding(
            "at",
            "address",
            "Address",
            show=False,
            key_display="@",
            id="app.address",
            tooltip="Copy the command that opens this",
        ),
        Binding("J", "side(1)", "Panel down", show=False, id="app.panel_down"),
        Binding("K", "side(-1)", "Panel up", show=False, id="app.panel_up"),
    ]

    @property
    def workspace(self) -> Workspace:
        """The open store and what is in view."""
        return workspace_of(self)

    @property
    def here(self) -> RunPlace | None:
        """The run and the SAE the screen is about."""
        return self.workspace.place

    def names(self) -> list[str]:
        """How that reads on the status line."""
        place = self.here
        return [] if place is None else [place.run, place.sae.sae_id if place.sae else "no SAE"]

    def address(self) -> Told:
        """What is seen here, in words that `take` takes; the view beneath is the app's."""
        place = self.here
        if place is None:
            return Told()
        return Told(run=place.run, sae=place.sae.sae_id if place.sae else None)

    def take(self, told: Told) -> None:
        """Show what words say of this screen, which has just been opened."""

    def one_of(self, known: Sequence[str], wanted: str | None) -> str:
        """What words ask for of what can be shown: the first where they ask for nothing, or for
        what there is not, which is told."""
        if wanted is None or wanted in known:
            return wanted or known[0]
        self.notify(f"--show takes {', '.join(known)}; not '{wanted}'", severity="warning")
        return known[0]

    def action_address(self) -> None:
        """Copy the command line that opens what is seen, and show it."""
        beneath = self.app.screen_stack[0]
        told = replace(self.address(), view=self.app.current_mode)
        if beneath is not self and isinstance(beneath, LensScreen) and not self.HAS_LIST:
            told = told.over(beneath.address().of_list)
        line = line_of(self.workspace.store.path.resolve(), told)
        self.app.copy_to_clipboard(line)
        self.app.push_screen(AddressModal(line))

    def say(self, *parts: str) -> None:
        """Fill the status line."""
        bar = self.query_one(StatusBar)
        bar.stand_at(self.names())
        bar.say(*parts)

    def cannot(self, why: str) -> None:
        """Say why a key opens nothing."""
        self.app.push_screen(Cannot(why))

    def action_side(self, by: int) -> None:
        """Scroll the panel beside what is in focus."""
        for panel in self.query(".side"):
            panel.scroll_relative(y=by * max(1, panel.size.height // 2), animate=False)

    def action_zoom(self) -> None:
        """Show one pane alone, then the next, then all."""
        pane = show_next_alone(self)
        if pane is not None and pane.can_focus:
            pane.focus()
        self.call_after_refresh(self.panes_changed)

    def action_widen(self, by: int) -> None:
        """Give the pane beside more room, or less."""
        widen_side(self, by)
        self.call_after_refresh(self.panes_changed)

    def on_resize(self) -> None:
        """Draw to the new width, once it is laid out."""
        self.call_after_refresh(self.panes_changed)

    def panes_changed(self) -> None:
        """Draw what is drawn to the width of a pane once more."""

    def action_recompute(self) -> None:
        """Offer what can be computed for the run in view."""
        if self.here is not None:
            offer(self, self.here)

    def open_place(self, place: Place) -> None:
        """Ask the app to show a place."""
        self.app.post_message(Open(place))

    def action_read_again(self) -> None:
        """Show what other programs have written into the store meanwhile."""
        workspace = self.workspace

        def told() -> None:
            runs, saes = len(workspace.store.runs), len(workspace.choices)
            self.notify(f"read again: {counted(runs, 'run')}, {counted(saes, 'SAE')}", markup=False)

        workspace.read_again(self, told)

    def figures(self) -> list[ViewFigure]:
        """The figures of the run in view."""
        place = self.here
        if place is None:
            return []
        return [ViewFigure(name, title, place.run) for name, title in self.FIGURES.items()]

    def own_ways(self) -> list[Way]:
        """What the screen can write beside its table and itself."""
        return figure_ways(self, self.figures())

    def action_export(self) -> None:
        """Write the table, a figure or the screen to a file."""
        place = self.here
        export(self, self.own_ways(), [] if place is None else [list_way(self, place.run)])

    def action_take_in_list(self) -> None:
        """Take in what another person has starred, noted, explained and rated."""
        take_in_list(self)

    @on(VirtualTable.Peeked)
    def _cell(self, event: VirtualTable.Peeked) -> None:
        self.app.push_screen(CellModal(event.title, str(event.value)))

    @on(VirtualTable.FrequencyAsked)
    def _frequency(self, event: VirtualTable.FrequencyAsked) -> None:
        source, column = event.table.source, event.table.column
        if source is None:
            return
        names = [c.name for c in event.table.all_columns]

        def count(_: object) -> list[tuple[str, int]]:
            return frequencies(source.frame(names)[column.name])

        def show(rows: list[tuple[str, int]]) -> None:
            self.app.push_screen(FrequencyModal(column.title, rows))

        self.workspace.tasks.ask(self, "frequency", count, show)

    def action_describe(self) -> None:
        """Tell how the values of the column under the cursor spread."""
        table = shown_table(self)
        if table is None or table.source is None or not table.n_rows:
            self.cannot("There is no list here with a column to describe.")
            return
        source, column = table.source, table.column
        names = [c.name for c in table.all_columns]

        def show(values: pl.Series) -> None:
            self.app.push_screen(DescribeModal(column.title or column.name, values))

        self.workspace.tasks.ask(self, "describe", lambda _: source.frame(names)[column.name], show)

    def on_mount(self) -> None:
        """Show the columns that the settings ask for, else the screen's own first."""
        for table in self.query(VirtualTable):
            told = self.workspace.columns.get(self._list_name(table))
            wanted = from_told(told or self.FIRST_COLUMNS.get(table.id or "", ()))
            table.arrange_columns(wanted.shown, wanted.hidden)

    def _list_name(self, table: VirtualTable) -> str:
        return f"{type(self).__name__.removesuffix('Screen').lower()}.{table.id}"

    def action_columns(self) -> None:
        """Choose the columns of the list in focus, and their order."""
        table = shown_table(self)
        if table is None or not table.all_columns:
            self.cannot("There is no list here whose columns could be chosen.")
            return
        listed, name, workspace = table, self._list_name(table), self.workspace
        first = self.FIRST_COLUMNS.get(table.id or "", ())
        own = sorted(listed.all_columns, key=lambda one: place_in(first, one.name))
        titles = {one.name: one.title or one.name for one in own}
        shown = tuple(one.name for one in listed.columns)
        now = Columns(shown, tuple(one for one in titles if one not in shown))

        def chosen(wanted: Columns | None) -> None:
            if wanted is None:
                return
            listed.arrange_columns(wanted.shown, wanted.hidden)
            workspace.columns[name] = as_told(wanted)
            kept = dict(workspace.columns)
            workspace.tasks.ask(
                self, "columns", lambda _: keep_columns(settings_path(), kept), lambda _: None
            )

        self.app.push_screen(ColumnsModal(now, titles, listed.column.name), chosen)

    def step_back(self) -> bool:
        """One step back within the screen; False where there is none left."""
        return False

    def action_back(self) -> None:
        if self.step_back():
            return
        if len(self.app.screen_stack) > 1:
            self.app.pop_screen()
        else:
            self.app.notify("q again at the root does nothing; ctrl+q quits", markup=False)


class SaeScreen(LensScreen):
    """A screen about the SAE in view, which `c` changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "choose_sae", "SAE", id="sae.choose", tooltip="Look at another SAE"),
    ]

    def action_choose_sae(self) -> None:
        """Ask for another SAE."""

        def chosen(selection: Selection | None) -> None:
            if selection is not None:
                self.workspace.select(selection)

        if not self.workspace.choices:
            self.cannot("No run of this store has an SAE.")
            return
        self.app.push_screen(ChooseSae(self.workspace.choices, self.workspace.selection), chosen)
