"""The app: it wires screens, keys and the store together, and does nothing else."""

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.screen import ModalScreen, Screen
from textual.theme import BUILTIN_THEMES
from textual.widgets import Input, TextArea

from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.queries.display import visible_lines
from energylens.tui.address import Told
from energylens.tui.commands import LensCommands, Palette
from energylens.tui.ending import end_when_told
from energylens.tui.finding import at_once, goals, look
from energylens.tui.follow import follow
from energylens.tui.guard import OnlyText
from energylens.tui.jobs import Jobs
from energylens.tui.jump import Jump
from energylens.tui.keymap import bindings_by_id, is_key
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.modals.cannot import Cannot
from energylens.tui.modals.cell import CellModal
from energylens.tui.modals.choose_run import ChooseRun
from energylens.tui.modals.find import Find
from energylens.tui.modals.help import HelpModal
from energylens.tui.modals.leaving import Leaving
from energylens.tui.modals.too_small import SMALLEST, TooSmall
from energylens.tui.navigation import go_to, show_run
from energylens.tui.notices import Failed
from energylens.tui.places import DictionaryMap, Graphs, Heads, Open, Prompt
from energylens.tui.screens.coactivation import CoactivationScreen
from energylens.tui.screens.dictionary import MapScreen
from energylens.tui.screens.efas import EfasScreen
from energylens.tui.screens.energy import EnergyScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.graphs import GraphsScreen
from energylens.tui.screens.heads import HeadsScreen
from energylens.tui.screens.jobs import JobsScreen
from energylens.tui.screens.overview import OverviewScreen
from energylens.tui.screens.routing import RoutingScreen
from energylens.tui.screens.specialists import SpecialistsScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.settings import Settings, read_settings, settings_path
from energylens.tui.start import Start, begin, look_up
from energylens.tui.state import Workspace
from energylens.tui.turns import Turns, Typed
from energylens.tui.worker import WorkerClient

_LONGEST_TOAST = 240
"""Characters of an error that is told in passing; a longer one is to be read and copied."""

_NO_RUN = "This store holds no run yet. Make one in a shell: energylens ingest"
_LOOK_AFTER = 1.0
"""Seconds between two looks at jobs that are processes of their own."""


@dataclass(frozen=True)
class WorkerPlace:
    """How the worker is started, and what it calls the store."""

    command: tuple[str, ...] = (sys.executable, "-m", "energylens", "worker")
    store: str | None = None
    """The store's path on the worker's machine; None where that is this one."""


class LensApp(App[None]):
    """Energy-Lens in a terminal."""

    TITLE = "Energy-Lens"
    CSS_PATH = "styles/app.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, type[Screen]]] = {  # type: ignore[assignment]
        "overview": OverviewScreen,
        "features": FeaturesScreen,
        "specialists": SpecialistsScreen,
        "efas": EfasScreen,
        "coactivation": CoactivationScreen,
        "routing": RoutingScreen,
        "energy": EnergyScreen,
        "sql": SqlScreen,
        "jobs": JobsScreen,
    }
    DEFAULT_MODE = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "switch_mode('overview')", "Overview", show=False, id="view.overview"),
        Binding("2", "switch_mode('features')", "Features", show=False, id="view.features"),
        Binding(
            "3", "switch_mode('specialists')", "Specialists", show=False, id="view.specialists"
        ),
        Binding("4", "switch_mode('efas')", "EFAS", show=False, id="view.efas"),
        Binding(
            "5", "switch_mode('coactivation')", "Co-activation", show=False, id="view.coactivation"
        ),
        Binding("6", "switch_mode('routing')", "Routing", show=False, id="view.routing"),
        Binding("7", "switch_mode('energy')", "Energy", show=False, id="view.energy"),
        Binding("8", "switch_mode('sql')", "SQL", show=False, id="view.sql"),
        Binding("9", "switch_mode('jobs')", "Jobs", show=False, id="view.jobs"),
        Binding("0", "heads", "Heads", show=False, id="app.heads", tooltip="Attention heads"),
        Binding("d", "map", "Map", show=False, id="app.map", tooltip="Of the dictionary"),
        Binding("W", "graphs", "Graphs", show=False, id="app.graphs", tooltip="Of attribution"),
        Binding("C", "choose_run", "Run", show=False, id="app.run", tooltip="Look at another run"),
        Binding("p", "prompt", "Prompt", show=False, id="app.prompt", tooltip="Run a text"),
        Binding("question_mark", "help", "Help", key_display="?", id="app.help"),
        Binding("f1", "help", "Help", key_display="F1", priority=True, id="app.help_too"),
        Binding(
            "ctrl+g",
            "jump_from_editor",
            "Go to",
            priority=True,
            id="app.jump_too",
            tooltip="Views and all else, from where letters are text",
        ),
        Binding("colon", "jump", "Jump", show=False, id="app.jump", tooltip="Go anywhere by name"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="app.quit"),
    ]

    COMMANDS: ClassVar[set] = App.COMMANDS | {LensCommands}

    def __init__(
        self,
        store: Store,
        worker: WorkerPlace | None = None,
        settings: Settings | None = None,
        start: Start | None = None,
    ) -> None:
        super().__init__()
        self._start = start
        wanted = settings or Settings()
        place = worker or WorkerPlace()
        client = WorkerClient(place.command)
        jobs = Jobs(client, place.store or str(store.path.resolve()), store.path)
        self.workspace = Workspace(store, jobs, wanted.rater)
        self.workspace.columns = dict(wanted.columns)
        self.theme = wanted.theme
        self.set_keymap(wanted.keys)
        self._guard = OnlyText()
        self._turns = Turns(self, super().on_event)
        is_far = bool(os.environ.get("SSH_CONNECTION"))
        if not (wanted.animation if wanted.animation is not None else not is_far):
            self.animation_level = "none"

    def on_mount(self) -> None:
        """Watch the terminal, where there is one, and go where one begins."""
        if not gc.isenabled():
            self.call_after_refresh(_begin_to_collect)
        if self._start is not None:
            self.call_after_refresh(begin, self, self._start)
        end_when_told(self, self._stop)
        self.workspace.jobs.find()
        self.set_interval(_LOOK_AFTER, self._look_at_jobs)

    def _look_at_jobs(self) -> None:
        """Tell of jobs that have ended in processes of their own, and show what they have made."""
        for job in self.workspace.jobs.find():
            said = job.log[-1] if job.log else job.title
            if job.state == "done":
                self.notify(said, timeout=10)
                self.workspace.read_again(self.screen)
            elif job.state != "cancelled":
                self.post_message(Failed(f"{job.title}: {said}"))

    async def on_event(self, event: events.Event) -> None:
        """Let what is typed take effect one by one, and all else at once."""
        if isinstance(event, Typed) and not event.is_forwarded:
            await self._turns.take(event)
            return
        await super().on_event(event)
        if isinstance(event, Typed):
            self._turns.arrived(event)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._guard]

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Tell something in passing; it may hold data, so it is never markup."""
        super().notify(
            visible_lines(message), title=title, severity=severity, timeout=timeout, markup=False
        )

    def action_prompt(self) -> None:
        """Run a text through the model of the run in view."""
        place = self.workspace.place
        if place is None:
            self.push_screen(Cannot(_NO_RUN))
        else:
            self.post_message(Open(Prompt(place.run)))

    def action_choose_run(self) -> None:
        """Ask for another run, and show it in the view that is open."""

        async def chosen(run: str | None) -> None:
            if run is not None:
                await show_run(self, run)

        states = [self.workspace.store.run(info.run_id) for info in self.workspace.runs]
        if not states:
            self.push_screen(Cannot(_NO_RUN))
            return
        place = self.workspace.place
        self.push_screen(ChooseRun(states, place.run if place else None), chosen)

    def key_slash(self) -> None:
        """This and the next ones: keys that letters follow, on screens that have nothing for them.
        They say so in a dialog, so that the letters are no keys."""
        self._nothing_here("no list here to filter")

    def key_g(self) -> None:
        self._nothing_here("no list of features here to go along")

    def key_n(self) -> None:
        self._nothing_here("no feature here to note something about")

    def key_b(self) -> None:
        self._nothing_here("no feature here to rate")

    def _nothing_here(self, what: str) -> None:
        if not isinstance(self.screen, ModalScreen):
            self.push_screen(Cannot(f"There is {what}. ? tells the keys of this screen."))

    def action_heads(self) -> None:
        """Show the attention heads of the run in view."""
        place = self.workspace.place
        if place is None:
            self.push_screen(Cannot(_NO_RUN))
        elif not isinstance(self.screen, HeadsScreen):
            self.post_message(Open(Heads(place.run)))

    def action_graphs(self) -> None:
        """Show the attribution graphs of the store."""
        if not isinstance(self.screen, GraphsScreen):
            self.post_message(Open(Graphs()))

    def action_map(self) -> None:
        """Show the map of the SAE in view, at the feature that is in view."""
        selection, screen = self.workspace.selection, self.screen
        if isinstance(screen, MapScreen):
            return
        feature = screen.feature_in_view() if isinstance(screen, MarkingScreen) else None
        if feature is not None:
            selection = feature.selection
        if selection is None:
            self.push_screen(Cannot("The run in view has no SAE, so it has no map of features."))
            return
        words = screen.filter_text if isinstance(screen, FeaturesScreen) else ""
        at = None if feature is None else feature.feature_id
        self.post_message(Open(DictionaryMap(selection, at, words)))

    @on(Open)
    async def _open(self, event: Open) -> None:
        await go_to(self, event.place)

    @on(Failed)
    def _tell(self, event: Failed) -> None:
        if len(event.text) > _LONGEST_TOAST:
            self.push_screen(CellModal("This did not work", event.text))
        else:
            self.notify(event.text, severity="error", markup=False, timeout=10)

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette())

    def action_jump(self) -> None:
        """Ask where to go, and go there."""
        if isinstance(self.screen, Find):
            return
        workspace = self.workspace
        known = partial(at_once, workspace)
        self.push_screen(Find("Go to", goals(workspace), known, look(workspace)), self._jump)

    def action_jump_from_editor(self) -> None:
        """The same, by a key that is no text."""
        self.action_jump()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """The key for editors is offered in editors."""
        return action != "jump_from_editor" or isinstance(self.focused, Input | TextArea)

    async def _jump(self, jump: Jump | None) -> None:
        if jump is None:
            return
        try:
            while isinstance(self.screen, ModalScreen):  # what it was asked from
                await self.pop_screen()
            await follow(self, jump)
        except UsageError as error:
            self.notify(str(error), severity="warning", markup=False, timeout=10)

    def action_help(self) -> None:
        """Show what the screen is about and what the keys do here."""
        if isinstance(self.screen, HelpModal):
            self.screen.dismiss()
            return
        active = list(self.screen.active_bindings.values())
        self.push_screen(HelpModal(self.screen.HELP or "", active))

    def on_resize(self) -> None:
        """Cover the screen with a message while the terminal is too small, and uncover it."""
        self.call_after_refresh(self._cover)

    def _cover(self) -> None:
        is_small = self.size.width < SMALLEST[0] or self.size.height < SMALLEST[1]
        if is_small and not isinstance(self.screen, TooSmall):
            self.push_screen(TooSmall())
        elif not is_small and isinstance(self.screen, TooSmall):
            self.pop_screen()

    async def action_quit(self) -> None:
        """Stop every query and leave; of jobs that could go on, ask."""
        staying = len(self.workspace.jobs.staying)
        if not staying or isinstance(self.screen, Leaving):
            self._leave()
            return

        def chosen(is_to_stop: bool | None) -> None:
            if is_to_stop is None:
                return
            if is_to_stop:
                self.run_worker(self._end_jobs, thread=True)
            else:
                self._leave()

        self.push_screen(Leaving(staying), chosen)

    def _end_jobs(self) -> None:
        """In a thread."""
        self.workspace.jobs.end_staying()
        self.call_from_thread(self._leave)

    def _leave(self) -> None:
        self._stop()
        self.exit()

    def on_unmount(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self.workspace.tasks.close()
        self.workspace.jobs.close()


def _begin_to_collect() -> None:
    """Look for garbage from now on, but not among what was loaded: to look through that would be
    felt at a key."""
    gc.freeze()
    gc.enable()


def run_tui(store: Store, worker: WorkerPlace | None = None, told: Told | None = None) -> int:
    """Explore a store, from where one is told to, until the user leaves; the status to end with.

    Raises:
        UsageError: the settings, or what is told, cannot be read, or name what there is not.
    """
    themes = sorted(BUILTIN_THEMES)
    settings = read_settings(settings_path(), themes, bindings_by_id(), is_key)
    start = None if told is None else look_up(told, store)
    app = LensApp(store, worker, settings, start)
    app.run()
    return app.return_code or 0
