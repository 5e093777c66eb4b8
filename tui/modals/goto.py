"""Go to a feature by its number, with a look at it before going."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from energylens.errors import EnergyLensError
from energylens.queries.display import visible_lines
from energylens.queries.features import Feature, feature
from energylens.tui.feature_facts import facts
from energylens.tui.state import Selection, Workspace, workspace_of


class GoTo(ModalScreen[int | None]):
    """Returns the feature's number, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "none", "Cancel", id="goto.cancel"),
    ]

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self._selection = selection

    @property
    def workspace(self) -> Workspace:
        """The open store and what is in view."""
        return workspace_of(self)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            top = self._selection.sae.d_sae - 1
            yield Static(f"Go to feature (0 to {top:,})", classes="dialog-title", markup=False)
            yield Input(type="integer", id="goto")
            yield Static("", id="goto-preview", markup=False)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        wanted = self._number(event.value)
        if wanted is None:
            self.query_one("#goto-preview", Static).update("")
            return
        run, sae = self._selection.run, self._selection.sae.sae_id
        self.workspace.tasks.ask(
            self, "preview", lambda s: feature(s, run, sae, wanted), self._preview, self._no_preview
        )

    def _preview(self, found: Feature) -> None:
        self.query_one("#goto-preview", Static).update(facts(found))

    def _no_preview(self, error: EnergyLensError) -> None:
        self.query_one("#goto-preview", Static).update(visible_lines(str(error)))

    @on(Input.Submitted)
    def _go(self, event: Input.Submitted) -> None:
        wanted = self._number(event.value)
        if wanted is None:
            self.query_one("#goto-preview", Static).update("there is no such feature")
        else:
            self.dismiss(wanted)

    def action_none(self) -> None:
        self.dismiss(None)

    def _number(self, text: str) -> int | None:
        return int(text) if text.isdigit() and int(text) < self._selection.sae.d_sae else None
