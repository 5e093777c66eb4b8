"""A column in figures: how many values it has, how they spread, and a histogram of them."""

from typing import ClassVar

import polars as pl
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import number, visible
from energylens.tui.modals.frequency import bars_of, frequencies

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def described(values: pl.Series) -> list[tuple[str, str]]:
    """The figures of a column by name: of numbers that are finite their quantiles, too."""
    known = values.drop_nulls()
    is_number = known.dtype.is_numeric()
    figures = [
        ("values", f"{len(known):,}"),
        ("NULL", f"{len(values) - len(known):,}"),
        ("distinct", f"{plain(known).n_unique():,}"),
    ]
    if not is_number:
        return figures
    finite = known.cast(pl.Float64).filter(known.cast(pl.Float64).is_finite())
    if len(finite) < len(known):
        figures.append(("not finite", f"{len(known) - len(finite):,}"))
    if finite.is_empty():
        return figures
    figures += [("least", number(finite[finite.arg_min() or 0]))]
    figures += [(f"{share:.0%}", number(finite.quantile(share, "linear"))) for share in _QUANTILES]
    figures += [("most", number(finite[finite.arg_max() or 0]))]
    figures += [("mean", number(float(finite.sum()) / len(finite)))]
    deviation = finite.std()
    if isinstance(deviation, float):
        figures += [("deviation", number(deviation))]
    return figures


def plain(values: pl.Series) -> pl.Series:
    """The values, lists as their text: Polars neither casts nor counts those."""
    if not values.dtype.is_nested():
        return values
    told = [None if value is None else str(value) for value in values.to_list()]
    return pl.Series(told, dtype=pl.String)


class DescribeModal(ModalScreen[None]):
    """Any of esc, enter, q and I closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,I", "close", "Close", id="describe.close"),
    ]

    def __init__(self, title: str, values: pl.Series) -> None:
        super().__init__()
        self._title = title
        self._lines = [f"{name:>10}  {told}" for name, told in described(values)]
        self._lines += ["", *bars_of(frequencies(plain(values)))]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(visible(self._title), classes="dialog-title", markup=False)
            with VerticalScroll():
                yield Static("\n".join(self._lines), markup=False)
            yield Static("esc closes", classes="dialog-hint", markup=False)

    def action_close(self) -> None:
        self.dismiss(None)
