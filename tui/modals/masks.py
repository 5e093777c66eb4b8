"""Choose which masked tokens are counted."""

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static

from energylens.queries.masks import MaskCounts, Unmasked

_MASKS = (
    ("special", "special: BOS, EOS and the like"),
    ("first", "first of their context"),
    ("sinks", "sinks: their norm stands out"),
)


class MasksModal(ModalScreen[Unmasked]):
    """Space or enter lifts a mask or puts it back, `M` all of them; esc takes what is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "take", "Done", id="masks.done"),
        Binding("space", "turn", "Turn", id="masks.turn"),
        Binding("M", "all", "All", id="masks.all"),
    ]

    def __init__(self, lifted: Unmasked, counts: MaskCounts) -> None:
        super().__init__()
        self._lifted, self._counts = lifted, counts

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Count masked tokens too?", classes="dialog-title", markup=False)
            yield OptionList(markup=False)
            yield Static(
                "space counts them or leaves them out, M all, esc is done; "
                "a token under several masks needs each",
                classes="dialog-hint",
                markup=False,
            )

    def on_mount(self) -> None:
        self._show(0)
        self.query_one(OptionList).focus()

    def _show(self, row: int) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        for name, title in _MASKS:
            said = "counted " if getattr(self._lifted, name) else "left out"
            options.add_option(f"{said}  {title} ({getattr(self._counts, name):,})")
        options.highlighted = row

    @on(OptionList.OptionSelected)
    def action_turn(self) -> None:
        """Lift the mask under the cursor, or put it back."""
        row = self.query_one(OptionList).highlighted or 0
        name = _MASKS[row][0]
        self._lifted = replace(self._lifted, **{name: not getattr(self._lifted, name)})
        self._show(row)

    def action_all(self) -> None:
        """Lift all masks, or put all back."""
        self._lifted = Unmasked() if self._lifted else Unmasked(True, True, True)
        self._show(self.query_one(OptionList).highlighted or 0)

    def action_take(self) -> None:
        self.dismiss(self._lifted)
