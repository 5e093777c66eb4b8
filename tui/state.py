"""What all screens share: the open store, its questions, and the SAE in view."""

from collections.abc import Callable
from dataclasses import dataclass

from db.provenance import SaeInfo
from db.store import Store
from tui.tasks import Tasks


@dataclass(frozen=True)
class Selection:
    """One SAE of one run."""

    run: str
    sae: SaeInfo

    @property
    def title(self) -> str:
        """How it reads on a status line."""
        return f"{self.run} / {self.sae.sae_id}"


class Workspace:
    """One of it for an app; screens reach it as `self.workspace`."""

    def __init__(self, store: Store) -> None:
        self.store, self.tasks = store, Tasks(store)
        self.choices = [
            Selection(state.info.run_id, sae) for state in store.runs for sae in state.info.saes
        ]
        """Every SAE of the store."""
        self.selection = self.choices[0] if self.choices else None
        """The SAE in view; None in a store without one."""
        self._watchers: list[Callable[[], None]] = []

    def select(self, selection: Selection) -> None:
        """Look at another SAE."""
        if selection != self.selection:
            self.selection = selection
            for watcher in self._watchers:
                watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Be called when another SAE is in view."""
        self._watchers.append(watcher)
