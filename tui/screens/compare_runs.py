"""Two runs held against each other: energies, SAEs, features and specialists, with tests."""

from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from energylens.queries.compare import Comparison, compare_runs
from energylens.tui.address import Told
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.places import TwoRuns
from energylens.tui.widgets.columns import columns_of
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_PARTS = ("energies", "saes", "features", "specialists")


class CompareRunsScreen(ListingScreen):
    """One table of four; t turns to the next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "turn", "Turn", id="runs.turn", tooltip="Energies, SAEs, features, best"),
    ]
    HELP = """# Two runs side by side

**t** turns from the energies by category to the SAEs at the same place, the features that changed
most, and the best specialists in both. Where both runs read the same texts, differences are taken
text by text; else the texts of either are two samples. q is Benjamini-Hochberg over the table.
**/** filters, **s** and **S** sort, **e** writes the table to a file; the same in a shell:
`energylens compare STORE RUN OTHER_RUN`.
"""

    def __init__(self, place: TwoRuns) -> None:
        super().__init__()
        self._runs = place.run, place.other
        self._found: Comparison | None = None
        self._part = _PARTS[0]

    def names(self) -> list[str]:
        return list(self._runs)

    def address(self) -> Told:
        run, other = self._runs
        shown = None if self._part == _PARTS[0] else self._part
        return replace(super().address(), run=run, sae=None, other_run=other, show=shown)

    def take(self, told: Told) -> None:
        self._part = self.one_of(_PARTS, told.show)
        self._draw()
        super().take(told)

    def compose(self) -> ComposeResult:
        yield ViewBar("overview")
        yield VirtualTable((TableColumn("rows", "comparing ...", 40),), id="difference")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#difference").focus()
        self.say("comparing ...")
        store = self.workspace.store
        self.workspace.tasks.ask(
            self, "compare", lambda _: compare_runs(store, *self._runs), self._compared
        )

    def _compared(self, found: Comparison) -> None:
        self._found = found
        self._draw()

    def _draw(self) -> None:
        if self._found is None:
            return
        rows: pl.DataFrame = getattr(self._found, self._part)
        self.show_rows(self.query_one("#difference", VirtualTable), rows, columns_of(rows))
        turn = " / ".join(f"[{part}]" if part == self._part else part for part in _PARTS)
        how = "text by text" if self._found.is_paired else "two samples of texts"
        self.say(
            turn,
            f"{len(rows):,} rows",
            how,
            f"per {self._found.unit}",
        )

    def action_turn(self) -> None:
        """Show the next of the tables."""
        self._part = _PARTS[(_PARTS.index(self._part) + 1) % len(_PARTS)]
        self._draw()
