"""Choose which masked tokens are counted."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static

from queries.masks import MaskCounts, Unmasked


class MasksModal(ModalScreen[Unmasked]):
    """Space lifts a mask or puts it back, `M` all of them; esc takes what is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "take", "Done", id="masks.done"),
        Binding("M", "all", "All", id="masks.all"),
    ]

    def __init__(self, lifted: Unmasked, counts: MaskCounts) -> None:
        super().__init__()
        self._lifted, self._counts = lifted, counts

    def compose(self) -> ComposeResult:
        lifted, n = self._lifted, self._counts
        with Vertical(classes="dialog"):
            yield Static("Count masked tokens too?", classes="dialog-title", markup=False)
            yield SelectionList[str](
                (f"special: BOS, EOS and the like ({n.special:,})", "special", lifted.special),
                (f"first of their context ({n.first:,})", "first", lifted.first),
                (f"sinks: their norm stands out ({n.sinks:,})", "sinks", lifted.sinks),
            )
            yield Static(
                "space counts them or leaves them out, M all, esc is done; "
                "a token under several masks needs each",
                classes="dialog-hint",
                markup=False,
            )

    def on_mount(self) -> None:
        self.query_one(SelectionList).focus()

    def action_take(self) -> None:
        chosen = self.query_one(SelectionList).selected
        self.dismiss(Unmasked("special" in chosen, "first" in chosen, "sinks" in chosen))

    def action_all(self) -> None:
        """Lift all masks, or put all back."""
        masks = self.query_one(SelectionList)
        if masks.selected:
            masks.deselect_all()
        else:
            masks.select_all()
