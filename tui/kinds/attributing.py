"""Screens with tokens on them: what made the model predict what comes after one."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from energylens.tui.kinds.base import LensScreen
from energylens.tui.places import Attribution
from energylens.tui.state import Selection


class AttributingScreen(LensScreen):
    """A screen with a token under a cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "A",
            "attribute",
            "Attribute",
            show=False,
            id="token.attribute",
            tooltip="Features behind what follows the token",
        ),
    ]

    def prediction_in_view(self) -> Attribution | None:
        """The place of the token under the cursor; None where there is none."""
        return None

    def action_attribute(self) -> None:
        """Show the features behind what is predicted after the token."""
        place = self.prediction_in_view()
        if place is not None:
            self.open_place(place)
        elif self.sae_here() is None:
            self.notify("this run has no SAE whose features could be behind it", markup=False)
        else:
            self.notify("no token is chosen", markup=False)

    def after(self, token_index: int | None) -> Attribution | None:
        """The prediction after a token of the run."""
        selection = self.sae_here()
        if selection is None or token_index is None:
            return None
        n_ctx = self.workspace.store.run(selection.run).info.n_ctx
        context_id, pos = divmod(token_index, n_ctx)
        return Attribution(selection, pos, context_id=context_id)

    def sae_here(self) -> Selection | None:
        """The SAE in view, or else the first of the run the screen is about."""
        run = None if self.here is None else self.here.run
        seen = self.workspace.selection
        if seen is not None and seen.run == run:
            return seen
        return next((one for one in self.workspace.choices if one.run == run), None)
