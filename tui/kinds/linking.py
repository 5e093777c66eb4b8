"""Screens about a feature that lead to the features of other SAEs it goes with."""

from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from energylens.queries.display import number, visible
from energylens.tui.kinds.base import LensScreen
from energylens.tui.places import one_feature
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.links import Link, Links

_TITLE = "in other SAEs"
_WAYS = {
    "active": "active together",
    "reads it": "read what it writes",
    "is read": "write what it reads",
}


class LinkingScreen(LensScreen):
    """Holds `Links`, in one place of several at a time; `L` goes there and back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("L", "links", "Links", show=False, id="feature.links", tooltip="In other SAEs"),
    ]
    _linked = pl.DataFrame()
    _before_links: Widget | None = None

    def show_links(self, rows: pl.DataFrame) -> None:
        """Show the rows of `linked_features`, with a label each."""
        self._linked = rows
        lines = [Link(Text(_TITLE, "dim"), leads=False)] if len(rows) else []
        before = None
        for row in rows.iter_rows(named=True):
            if (row["other_sae_id"], row["way"]) != before:
                before = row["other_sae_id"], row["way"]
                said = f"{_WAYS[row['way']]}: layer {row['layer']}  {visible(before[0])}"
                lines.append(Link(Text(said, "dim"), leads=False))
            lines.append(Link(_line(row)))
        for links in self.query(Links):
            links.show(lines)

    def action_links(self) -> None:
        """Go to the features of other SAEs; from there back to where one was."""
        seen = next((links for links in self.query(Links) if links.size.area), None)
        if seen is None or not seen.n:
            self.cannot(self._why_none())
        elif seen.has_focus:
            if self._before_links is not None and self._before_links.is_attached:
                self._before_links.focus()
        else:
            self._before_links = self.focused
            seen.enter()

    def _why_none(self) -> str:
        place = self.here or RunPlace("")
        saes = self.workspace.store.run(place.run).info.saes
        if len(saes) < 2:
            return "The run has one SAE; links lead to others."
        return (
            "No feature of another SAE goes with this one: SAEs are matched with those before and "
            "after them in the same stream, and with the next one on the residual stream, which "
            "takes an index made where the weights are."
        )

    @on(Links.Chosen)
    def _follow_link(self, event: Links.Chosen) -> None:
        row = self._linked.row(event.number, named=True)
        place = self.here
        selection = place and self.workspace.sae_of(place.run, row["other_sae_id"])
        if selection is not None:
            self.open_place(one_feature(FeaturePlace(selection, row["other_feature_id"])))


def _line(row: dict) -> Text:
    text = Text(f"{row['other_feature_id']:>7}")
    for name, what in (("correlation", "r"), ("cosine", "cos")):
        if row[name] is not None:
            text.append(f"  {what} {number(row[name], 2)}")
    return text.append(f"  {visible(row['label'] or '')}".rstrip())
