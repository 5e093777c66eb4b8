"""What every screen has: the workspace, a width class, and a way back."""

from typing import ClassVar, cast

from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui.state import Workspace


class LensScreen(Screen[None]):
    """A screen of Energy-Lens."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "Back", id="app.back", tooltip="One level back"),
    ]

    @property
    def workspace(self) -> Workspace:
        """The open store and what is in view."""
        return cast("Workspace", self.app.workspace)  # type: ignore[attr-defined]

    def action_back(self) -> None:
        if len(self.app.screen_stack) > 1:
            self.app.pop_screen()
        else:
            self.app.notify("q again at the root does nothing; ctrl+q quits", markup=False)
