"""Overview: the store's runs and SAEs, what is computed, and what is missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from energylens.db.provenance import RunInfo
from energylens.queries.display import counted, number, visible
from energylens.queries.overview import RunSummary, run_summaries
from energylens.tui.address import Told
from energylens.tui.fuzzy import Entry
from energylens.tui.kinds.base import LensScreen
from energylens.tui.modals.choose import Choose
from energylens.tui.places import Place, TwoRuns, TwoSaes
from energylens.tui.sources import FrameRows
from energylens.tui.state import RunPlace
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_COLUMNS = (
    TableColumn("sae", "SAE", 27),
    TableColumn("d_sae", "features", 9, number, right=True),
    TableColumn("l0", "L0", 6, lambda v: number(v, 2), right=True),
    TableColumn("fvu", "fvu", 6, number, right=True),
    TableColumn("dead", "dead", 6, number, right=True),
    TableColumn("gate", "gate", 10),
    TableColumn("run", "run", 40),
)


class OverviewScreen(LensScreen):
    """One line for each SAE and each run without; what there is of the run beside it."""

    FIGURES: ClassVar[dict[str, str]] = {
        "sae_performance": "how well each SAE stands for its activations",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="overview.open", tooltip="Look at this run and SAE"),
        Binding(
            "equals_sign",
            "compare",
            "Compare",
            id="overview.compare",
            tooltip="Mark it; again on another: side by side",
        ),
    ]
    HELP = """# Overview

One line for each SAE of the store, and one for each run without an SAE and for each that was made
from another run (a prompt, an intervention). **enter** looks at the run and the SAE: it opens the
features, or the energies of a run without. **C**, here and everywhere, looks at another run. The
panel says what is computed for the run and what is missing, with the command that makes it. **=**
marks an SAE; again on another it holds the two side by side, or their runs. **R**, here and
everywhere, reads the store again: what other programs have written since.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("overview")
        with Horizontal(id="overview"):
            yield VirtualTable(_COLUMNS, id="saes")
            with VerticalScroll(id="run", classes="side", can_focus=False):
                yield Static("reading the store ...", id="run-facts", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._summaries: dict[str, RunSummary] = {}
        self._places: list[RunPlace] = []
        self.query_one("#saes").focus()
        self.workspace.watch(self._list)
        self._list()

    def address(self) -> Told:
        row = self.query_one("#saes", VirtualTable).cursor_row
        return replace(super().address(), row=row + 1 if row > 0 else None)

    def take(self, told: Told) -> None:
        self.query_one("#saes", VirtualTable).move_to((told.row or 1) - 1)

    def _list(self) -> None:
        """Show every SAE as the store has it now; the cursor stays."""
        table = self.query_one("#saes", VirtualTable)
        row = table.cursor_row
        self._places = _places(self.workspace.runs)
        rows = [_row(place, self.workspace.store.run(place.run).info) for place in self._places]
        frame = pl.DataFrame(rows, schema=_SCHEMA) if rows else pl.DataFrame()
        table.show(FrameRows(frame))
        table.move_to(row)
        self._say()
        store = self.workspace.store
        self.workspace.tasks.ask(self, "overview", lambda _: run_summaries(store), self._summarised)

    def on_screen_resume(self) -> None:
        """Tell of jobs that have begun or ended meanwhile."""
        self._say()

    def _say(self) -> None:
        store, running = self.workspace.store, len(self.workspace.jobs.running)
        self.say(
            store.path.name,
            counted(len(store.runs), "run"),
            counted(sum(place.sae is not None for place in self._places), "SAE"),
            f"{counted(running, 'job')} running: 9" if running else "",
        )

    def _summarised(self, found: list[RunSummary]) -> None:
        self._summaries = {run.info.run_id: run for run in found}
        self._describe(self.query_one("#saes", VirtualTable).cursor_row)

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        self._describe(event.row)

    @on(VirtualTable.Chosen)
    def action_open(self) -> None:
        """Look at what is under the cursor: its features, or what a run without an SAE has."""
        place = self._place_at(self.query_one("#saes", VirtualTable).cursor_row)
        if place is not None:
            self.workspace.look_at(self.workspace.place_of(place))
            self.app.switch_mode("features" if place.sae else "energy")

    def _place_at(self, row: int) -> RunPlace | None:
        return self._places[row] if row < len(self._places) else None

    def action_compare(self) -> None:
        """Mark the SAE under the cursor; with another one marked, hold the two side by side."""
        found = self._place_at(self.query_one("#saes", VirtualTable).cursor_row)
        place, marked = found and found.selection, self.workspace.marked_sae
        if place is None:
            self.notify("no SAE stands under the cursor to be held beside another", markup=False)
            return
        if marked is None or marked == place:
            self.workspace.marked_sae = place
            self.notify(
                f"{place.sae.sae_id} marked: = on another holds the two side by side", markup=False
            )
            return
        self.workspace.marked_sae = None
        if marked.run == place.run:
            self.open_place(TwoSaes(marked, place))
            return

        def chosen(way: Place | None) -> None:
            if way is not None:
                self.open_place(way)

        ways: list[Entry[Place]] = [
            Entry("the two SAEs", TwoSaes(marked, place)),
            Entry("their runs, with tests over texts", TwoRuns(marked.run, place.run)),
        ]
        self.app.push_screen(Choose("Hold side by side", ways), chosen)

    def _describe(self, row: int) -> None:
        place = self._place_at(row)
        run = self._summaries.get(place.run) if place else None
        if run is not None:
            self.query_one("#run-facts", Static).update(_facts(run, self.workspace.store.path.name))
        elif not self.workspace.store.runs:
            self.query_one("#run-facts", Static).update(
                "This store holds no run yet.\n\nMake one in a shell:\n"
                f"energylens ingest {self.workspace.store.path} --model M --sae S --texts T"
            )


_SCHEMA = {
    "sae": pl.String,
    "d_sae": pl.Int64,
    "l0": pl.Float64,
    "fvu": pl.Float64,
    "dead": pl.Int64,
    "gate": pl.String,
    "run": pl.String,
}


def _places(runs: Sequence[RunInfo]) -> list[RunPlace]:
    """A place for each SAE of a corpus, and one for each other run."""
    found: list[RunPlace] = []
    for info in runs:
        own = info.saes if info.base_run is None else ()
        found += [RunPlace(info.run_id, sae) for sae in own] or [RunPlace(info.run_id)]
    return found


def _row(place: RunPlace, info: RunInfo) -> dict[str, object]:
    sae = place.sae
    if sae is None:
        said = "no SAE" if info.base_run is None else f"{info.kind} of {info.base_run}"
        return {"sae": said, "gate": "", "run": place.run}
    return {
        "sae": sae.sae_id,
        "d_sae": sae.d_sae,
        "l0": sae.l0,
        "fvu": sae.fvu,
        "dead": sae.n_dead,
        "gate": sae.gate.partition(":")[0],
        "run": place.run,
    }


def _routing(run: RunSummary) -> str:
    if not run.n_routers:
        return "no choices of routers"
    effects = "effects measured" if run.has_effects else "effects: energylens routing"
    return f"{run.n_routers} routers, {effects}"


def _facts(run: RunSummary, store_name: str) -> Text:
    """What is missing first, then what there is."""
    made = run.info
    text = Text()
    text.append(f"{visible(made.run_id)}\n", "bold")
    if not run.is_complete:
        text.append("The run is not finished; the same ingest command goes on with it.\n", "bold")
    if run.index != "fresh":
        text.append(f"The index is {run.index}: energylens index {store_name}\n", "bold")
    for name, value in (
        ("model", f"{made.model}"),
        ("class", f"{made.model_class}, {made.n_layers} layers, d_model {made.d_model}"),
        ("texts", f"{run.n_texts:,} of {made.n_texts:,} from {made.texts}"),
        ("tokens", f"{run.n_tokens:,} in contexts of {made.n_ctx}"),
        ("index", run.index),
        ("EFAS", ", ".join(made.efas) or "no gradients: energylens efas adds them"),
        ("routing", _routing(run)),
        ("energy", f"{number(run.mean_energy)} nats a token"),
        ("lens", f"{len(made.lens_layers)} layers" if made.lens_layers else "not computed"),
        ("codes", f"{run.n_codes:,}"),
        ("kept", ", ".join(made.keep) or "no vectors"),
        ("shards", f"{run.n_shards_complete} of {made.n_shards}"),
        ("BOS", "prepended" if made.prepend_bos else "not prepended"),
        ("made", made.created),
    ):
        text.append(f"{name:>7}  ", "dim")
        text.append(f"{visible(value)}\n")
    return text
