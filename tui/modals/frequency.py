"""How often each value of a column occurs."""

from typing import ClassVar

import polars as pl
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import number, visible

_BINS = 12
_MOST = 40
_BAR = 30


def frequencies(values: pl.Series) -> list[tuple[str, int]]:
    """Labels and counts: bins of equal width for many numbers, else the commonest values first."""
    known = values.drop_nulls()
    missing = len(values) - len(known)
    if known.dtype.is_numeric() and known.n_unique() > _BINS:
        finite = known.cast(pl.Float64).filter(known.cast(pl.Float64).is_finite())
        low, high = float(finite.min() or 0.0), float(finite.max() or 0.0)  # type: ignore[arg-type]
        width = (high - low) / _BINS
        place = ((finite - low) / width).floor().clip(0, _BINS - 1).cast(pl.Int64)
        counts = place.value_counts()
        by_bin = dict(zip(counts[counts.columns[0]], counts["count"], strict=True))
        rows = [
            (f"{number(low + i * width)} to {number(low + (i + 1) * width)}", by_bin.get(i, 0))
            for i in range(_BINS)
        ]
    else:
        counted = known.cast(pl.String).value_counts().sort("count", descending=True)
        listed = zip(counted[counted.columns[0]], counted["count"], strict=True)
        rows = [(visible(str(label)), n) for label, n in listed]
    return [*rows, ("·", missing)] if missing else rows


def bars_of(rows: list[tuple[str, int]]) -> list[str]:
    """A line for each of the commonest, with a bar."""
    top = max((n for _, n in rows), default=1)
    width = max((len(label) for label, _ in rows[:_MOST]), default=1)
    lines = [
        f"{label[:30]:>{min(width, 30)}} {'█' * round(n / top * _BAR):<{_BAR}} {n:,}"
        for label, n in rows[:_MOST]
    ]
    rest = len(rows) - _MOST
    return [*lines, f"and {rest:,} more values"] if rest > 0 else lines


class FrequencyModal(ModalScreen[None]):
    """Bars; any of esc, enter and q closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,F", "close", "Close", id="frequency.close"),
    ]

    def __init__(self, title: str, rows: list[tuple[str, int]]) -> None:
        super().__init__()
        self._title, self._rows = title, rows

    def compose(self) -> ComposeResult:
        total, lines = sum(n for _, n in self._rows), bars_of(self._rows)
        with Vertical(classes="dialog"):
            title = f"{visible(self._title)}: {total:,} rows"
            yield Static(title, classes="dialog-title", markup=False)
            with VerticalScroll():
                yield Static("\n".join(lines) or "no rows", markup=False)
            yield Static("esc closes", classes="dialog-hint", markup=False)

    def action_close(self) -> None:
        self.dismiss(None)
