"""Steering: text generated with a feature added, several strengths beside the model's own text."""

from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from energylens.errors import EnergyLensError
from energylens.protocol import (
    EditRequest,
    ProgressReport,
    SteeringRequest,
    SteeringResult,
)
from energylens.queries.display import number, visible, visible_lines
from energylens.tui.address import Told, number_in
from energylens.tui.jobs import Job
from energylens.tui.kinds.conditioning import CONDITION, ConditionScreen
from energylens.tui.modals.ask_text import AskText
from energylens.tui.places import Steering
from energylens.tui.state import RunPlace
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.when import when_in_words

STRENGTHS = (0.0, 0.5, 1.0, 2.0)
"""Multiples of the feature's maximum at first; + and - double and halve them."""
N_TOKENS = 40


class SteeringScreen(ConditionScreen):
    """A continuation for each strength."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "scale(2.0)", "Stronger", key_display="+", id="steer.more"),
        Binding("minus", "scale(0.5)", "Weaker", key_display="-", id="steer.less"),
        Binding("n", "seed", "Another", id="steer.seed", tooltip="Draw other words"),
        Binding("t", "text", "Prompt", id="steer.text", tooltip="Another prompt"),
        CONDITION,
        Binding("x", "cancel", "Cancel", show=False, id="steer.cancel"),
    ]
    HELP = """# Steering

The model continues the prompt with the feature's direction added at every token, in multiples of
the feature's maximum; the first text is the model's own. All draw from the same random numbers.
The feature's mean activation over the new tokens stands there twice: **steered**, as the model
reads them with the direction added, and **unchanged**, as the model without it reads the same
words, which falls where steering has made them strange to it. **perplexity** is how surprised the
unchanged model is by them, **distinct** the share of two-token sequences that are different:
steering too hard shows in both.

**+** and **-** steer harder and more gently, **n** draws other words, **t** takes another prompt.
**o** takes a condition, as in the lab: the direction is then added only at the tokens of prompt and
continuation where it holds. At how many that was stands with each text, and below them how often
the condition holds in the run's texts.
"""

    def __init__(self, place: Steering) -> None:
        super().__init__()
        self._selection, self._feature_id = place.feature.selection, place.feature.feature_id
        self._prompt = place.prompt
        self.when = place.when
        self._scale, self._seed = 1.0, 0

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._selection.run, self._selection.sae)

    def address(self) -> Told:
        feature = f"{self._selection.sae.sae_id}:{self._feature_id}"
        told = replace(super().address(), page="steering", feature=feature, prompt=self._prompt)
        is_first = (self._scale, self._seed) == (1.0, 0)
        show = "" if is_first else f"{self._scale:g} {self._seed}"
        return replace(told, show=self.shown_with_condition(show))

    def take(self, told: Told) -> None:
        if told.show is None:
            return
        scale, _, seed = self.take_condition(told.show).partition(" ")
        if scale:
            self._scale, self._seed = number_in(scale, 1.0), int(number_in(seed, 0))
        self._run()

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with VerticalScroll(id="steering"):
            yield Static("", id="steered", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#steering").focus()
        self._run()

    def run_again(self) -> None:
        self._run()

    def _run(self) -> None:
        strengths = tuple(self._scale * strength for strength in STRENGTHS)
        sae_id = self._selection.sae.sae_id
        edit = EditRequest(sae_id, (self._feature_id,), "add", unit="max", when=self.when)
        self.ask_worker(
            "writing",
            f"steer by feature {self._feature_id}",
            "steer",
            self._selection.run,
            SteeringRequest(self._prompt, edit, strengths, N_TOKENS, seed=self._seed),
            SteeringResult,
            self._show,
            self._preview,
        )

    def tell_job(self, doing: str, job: Job) -> None:
        self._say(doing, self.workspace.jobs.told(job))

    def _say(self, *parts: str) -> None:
        place = f"feature {self._feature_id} {self.only_where}".rstrip()
        self.say(*parts, place, f"seed {self._seed}")

    def _preview(self, report: ProgressReport) -> None:
        if report.phase == "preview" and report.message:
            strength, _, text = report.message.partition(": ")
            self.query_one("#steered", Static).update(
                Text(f"strength {strength}\n{visible(self._prompt)}{visible(text)}▌")
            )

    def _show(self, found: SteeringResult) -> None:
        text = Text()
        for one in found.texts:
            text.append(f"strength {number(one.strength, 2)} of the maximum", "bold")
            text.append(
                f"   activation: steered {number(one.activation_steered)}, unchanged model "
                f"{number(one.activation)}   perplexity {number(one.perplexity)}   "
                f"distinct {number(one.distinct, 2)}\n",
                "dim",
            )
            if found.when is not None and one.strength and one.n_acted is not None:
                text.append(f"changed at {one.n_acted} of {one.n_read} tokens\n", "dim")
            text.append(visible(found.prompt), "dim")
            text.append(f"{visible(one.text)}\n\n")
        if found.when is not None:
            text.append("\n".join(map(visible, when_in_words(found.when))), "dim")
        self.query_one("#steered", Static).update(text)
        self._say("done")

    def failed(self, error: EnergyLensError) -> None:
        self.query_one("#steered", Static).update(Text(visible_lines(str(error))))
        self._say("nothing written")

    def action_scale(self, factor: float) -> None:
        """Steer harder or more gently."""
        self._scale *= factor
        self._run()

    def action_seed(self) -> None:
        """Draw other words."""
        self._seed += 1
        self._run()

    def action_text(self) -> None:
        """Ask for another prompt."""

        def given(text: str | None) -> None:
            if text:
                self._prompt = text
                self._run()

        self.app.push_screen(AskText("Prompt to continue", self._prompt), given)
