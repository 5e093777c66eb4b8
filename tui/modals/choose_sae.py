"""Choose the SAE to look at."""

from collections.abc import Sequence

from energylens.tui.fuzzy import Entry
from energylens.tui.modals.choose import Choose
from energylens.tui.state import Selection


class ChooseSae(Choose[Selection]):
    """Every SAE of the store."""

    def __init__(self, choices: Sequence[Selection], current: Selection | None) -> None:
        entries = [Entry(c.sae.sae_id, c, f"{c.sae.d_sae:,} features  {c.run}") for c in choices]
        place = choices.index(current) if current in choices else 0
        super().__init__("Which SAE?", entries, place)
