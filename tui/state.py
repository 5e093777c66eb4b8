"""What all screens share: the open store, its questions, and the run and SAE in view."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from textual.dom import DOMNode

from energylens.db.provenance import RunInfo, SaeInfo
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
class RunPlace:
    """A run, and one of its SAEs where it has any."""

    run: str
    sae: SaeInfo | None = None

    @property
    def selection(self) -> Selection | None:
        """The SAE as one of the run; None in a run without."""
        return None if self.sae is None else Selection(self.run, self.sae)

    @property
    def title(self) -> str:
        """How it reads on a status line."""
        return f"{self.run} / {self.sae.sae_id if self.sae else 'no SAE'}"


@dataclass(frozen=True)
class FeaturePlace:
    """One feature of an SAE."""

    selection: Selection
    feature_id: int


class Workspace:
    """One of it for an app; screens reach it as `self.workspace`."""

    def __init__(self, store: Store, jobs: Jobs, rater: str | None = None) -> None:
        self.store, self.tasks, self.jobs = store, Tasks(store), jobs
        self.columns: dict[str, list[str]] = {}
        """Columns of lists, as the settings hold them."""
        self.rater = rater
        """Who rates features, as the settings say; None where they do not."""
        self.place = self._first()
        """The run in view and its SAE; None in a store without a run."""
        self.marked_feature: FeaturePlace | None = None
        self.marked_sae: Selection | None = None
        """What the next comparison holds another one against."""
        self.unmasked = Unmasked()
        """Masked tokens that are shown where they are left out else."""
        self._watchers: list[Callable[[], None]] = []
        self._note_watchers: list[Callable[[], None]] = []

    @property
    def selection(self) -> Selection | None:
        """The SAE in view; None where the run in view has none."""
        return self.place.selection if self.place else None

    @property
    def runs(self) -> list[RunInfo]:
        """Every run of the store: corpora first, then what was made from them."""
        return sorted(self.store.infos, key=lambda info: info.base_run is not None)

    @property
    def choices(self) -> list[Selection]:
        """Every SAE of the corpora and of the run in view."""
        here = self.place.run if self.place else None
        listed = [info for info in self.runs if info.base_run is None or info.run_id == here]
        return [Selection(info.run_id, sae) for info in listed for sae in info.saes]

    def sae_of(self, run: str, sae_id: str) -> Selection | None:
        """An SAE of a run by its name; None where the store has none."""
        own = (info for info in self.store.infos if info.run_id == run)
        found = (sae for info in own for sae in info.saes if sae.sae_id == sae_id)
        return next((Selection(run, sae) for sae in found), None)

    def select(self, selection: Selection) -> None:
        """Look at another SAE."""
        self.look_at(RunPlace(selection.run, selection.sae))

    def select_run(self, run: str) -> None:
        """Look at another run, through the same SAE where it has it."""
        self.look_at(self._in_run(run, self.selection.sae.sae_id if self.selection else ""))

    def place_of(self, place: RunPlace) -> RunPlace:
        """A place with an SAE, where its run has one."""
        return self._in_run(place.run, place.sae.sae_id if place.sae else "")

    def look_at(self, place: RunPlace) -> None:
        """Look at another run or SAE."""
        if place != self.place:
            self.place = place
            for watcher in self._watchers:
                watcher()

    def read_again(self, asker: DOMNode, then: Callable[[], None] = lambda: None) -> None:
        """Take in what has been added to the store, here or by other programs, and show it."""

        def take_in(_: None) -> None:
            self.place = self._still_there(self.place)
            for watcher in self._watchers:
                watcher()
            self.noted()
            then()

        self.tasks.ask(asker, "read again", lambda _: self.store.refresh(), take_in)

    def _first(self) -> RunPlace | None:
        """Where one begins: the first run with an SAE, else the first."""
        runs = [info for info in self.runs if info.saes and info.base_run is None] or self.runs
        return self._in_run(runs[0].run_id, "") if runs else None

    def _still_there(self, place: RunPlace | None) -> RunPlace | None:
        """A place as the store has it now; the first of the store where its run has gone."""
        if place is None or place.run not in [info.run_id for info in self.store.infos]:
            return self._first()
        return self.place_of(place)

    def _in_run(self, run: str, sae_id: str) -> RunPlace:
        """A run with the SAE of that name, else its first, else none."""
        saes = self.store.run(run).info.saes
        same = (sae for sae in saes if sae.sae_id == sae_id)
        return RunPlace(run, next(same, saes[0] if saes else None))

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
