"""Choose the run to look at."""

from collections.abc import Sequence

from energylens.db.store import RunState
from energylens.queries.display import counted, number
from energylens.tui.fuzzy import Entry
from energylens.tui.modals.choose import Choose


class ChooseRun(Choose[str]):
    """Every run of the store, with what it is and what it has."""

    def __init__(self, runs: Sequence[RunState], current: str | None) -> None:
        entries = [Entry(state.info.run_id, state.info.run_id, _said(state)) for state in runs]
        names = [state.info.run_id for state in runs]
        place = names.index(current) if current in names else 0
        super().__init__("Which run?", entries, place)


def _said(state: RunState) -> str:
    made = state.info
    saes = counted(len(made.saes), "SAE") if made.saes else "no SAE"
    parts = [made.kind, f"{number(made.n_tokens)} tokens", saes, f"index {state.index}"]
    return ", ".join(parts)
