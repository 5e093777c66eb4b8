"""What all screens share: the open store, its questions, and the SAE in view."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from textual.dom import DOMNode

from energylens.db.provenance import SaeInfo
from energylens.db.store import Store
from energylens.queries.masks import Unmasked
from energylens.tui.jobs import Jobs
from energylens.tui.tasks import Tasks


@dataclass(frozen=True)
class Selection:
    """One SAE of one run."""

    run: str
    sae: SaeInfo

    @property
    def title(self) -> str:
        """How it reads on a status line."""
        return f"{self.run} / {self.sae.sae_id}"


@dataclass(frozen=True)
class FeaturePlace:
    """One feature of an SAE."""

    selection: Selection
    feature_id: int


class Workspace:
    """One of it for an app; screens reach it as `self.workspace`."""

    def __init__(self, store: Store, jobs: Jobs, rater: str | None = None) -> None:
        self.store, self.tasks, self.jobs = store, Tasks(store), jobs
        self.rater = rater
        """Who rates features, as the settings say; None where they do not."""
        self.choices = self._choices()
        """Every SAE of the store's corpora."""
        self.selection = self.choices[0] if self.choices else None
        """The SAE in view; None in a store without one."""
        self.marked_feature: FeaturePlace | None = None
        self.marked_sae: Selection | None = None
        """What the next comparison holds another one against."""
        self.unmasked = Unmasked()
        """Masked tokens that are shown where they are left out else."""
        self._watchers: list[Callable[[], None]] = []
        self._note_watchers: list[Callable[[], None]] = []

    def select(self, selection: Selection) -> None:
        """Look at another SAE."""
        if selection != self.selection:
            self.selection = selection
            for watcher in self._watchers:
                watcher()

    def read_again(self, asker: DOMNode, then: Callable[[], None] = lambda: None) -> None:
        """Take in what has been added to the store, here or by other programs, and show it."""

        def take_in(_: None) -> None:
            self.choices = self._choices()
            self.selection = self._still_there(self.selection)
            for watcher in self._watchers:
                watcher()
            self.noted()
            then()

        self.tasks.ask(asker, "read again", lambda _: self.store.refresh(), take_in)

    def _still_there(self, selection: Selection | None) -> Selection | None:
        """An SAE as the store has it now; the first of the store where it has gone."""
        wanted = selection and (selection.run, selection.sae.sae_id)
        same = (c for c in self.choices if (c.run, c.sae.sae_id) == wanted)
        return next(same, self.choices[0] if self.choices else None)

    def _choices(self) -> list[Selection]:
        corpora = [state for state in self.store.runs if state.info.base_run is None]
        return [Selection(state.info.run_id, sae) for state in corpora for sae in state.info.saes]

    def noted(self) -> None:
        """Show that a star, a note or a rating has changed."""
        for watcher in self._note_watchers:
            watcher()

    def watch_notes(self, watcher: Callable[[], None]) -> None:
        """Be called when a star, a note or a rating has changed."""
        self._note_watchers.append(watcher)

    def leave_notes(self, watcher: Callable[[], None]) -> None:
        """Be called no more; for screens that are closed."""
        self._note_watchers.remove(watcher)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Be called when another SAE is in view."""
        self._watchers.append(watcher)


def workspace_of(node: DOMNode) -> Workspace:
    """The workspace of the app a screen belongs to."""
    return cast("Workspace", node.app.workspace)  # type: ignore[attr-defined]
