"""Screens whose figures may count masked tokens."""

from dataclasses import asdict, replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from energylens.queries.masks import MaskCounts, Unmasked, mask_counts
from energylens.tui.address import Told
from energylens.tui.kinds.base import LensScreen
from energylens.tui.modals.masks import MasksModal


class MaskingScreen(LensScreen):
    """`M` asks which masked tokens count; the answer holds on every screen of this kind."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("M", "masks", "Masks", show=False, id="app.masks", tooltip="Masked tokens too"),
    ]

    def address(self) -> Told:
        lifted = [name for name, is_lifted in asdict(self.workspace.unmasked).items() if is_lifted]
        return replace(super().address(), unmask=",".join(lifted) or None)

    def masks_changed(self) -> None:
        """Show everything again with `workspace.unmasked`."""

    def action_masks(self) -> None:
        """Choose which masked tokens are counted too."""
        place = self.here
        if place is None:
            self.cannot("This store holds no run yet, so no token is masked.")
            return

        def chosen(unmasked: Unmasked | None) -> None:
            if unmasked is not None and unmasked != self.workspace.unmasked:
                self.workspace.unmasked = unmasked
                self.masks_changed()

        def ask(counts: MaskCounts) -> None:
            self.app.push_screen(MasksModal(self.workspace.unmasked, counts), chosen)

        self.workspace.tasks.ask(
            self, "masks", lambda session: mask_counts(session, place.run), ask
        )
