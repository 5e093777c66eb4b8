"""Choose the SAE to look at."""

from collections.abc import Sequence

from energylens.tui.modals.choose import Choose
from energylens.tui.state import Selection


class ChooseSae(Choose[Selection]):
    """Every SAE of the store."""

    def __init__(self, choices: Sequence[Selection], current: Selection | None) -> None:
        entries = [(f"{c.sae.sae_id}  {c.sae.d_sae:,} features  {c.run}", c) for c in choices]
        place = choices.index(current) if current in choices else 0
        super().__init__("Which SAE?", entries, place)
