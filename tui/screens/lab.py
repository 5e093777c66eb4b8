"""Lab: a text run with a feature changed, beside the clean text, and with controls."""

from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from energylens.errors import EnergyLensError
from energylens.protocol import EditRequest, FeatureShift, InterventionRequest, InterventionResult
from energylens.queries.display import number, visible, visible_lines, visible_token
from energylens.tui.address import Told, number_in
from energylens.tui.kinds.conditioning import CONDITION, ConditionScreen
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.modals.ask_text import AskText
from energylens.tui.places import Lab, Steering
from energylens.tui.sources import string_rows
from energylens.tui.state import RunPlace
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.token_pairs import TokenPairs, signed
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable
from energylens.when import WhenReport

_PROMPT = 60
"""Characters of the text that steering begins with."""
STEP = 0.5
"""Of the feature's maximum, what + and - add."""
_COLUMNS = (
    TableColumn("pos", "pos", 4, right=True),
    TableColumn("token", "token", 12),
    TableColumn("before", "before", 7, right=True),
    TableColumn("after", "after", 7, right=True),
    TableColumn("difference", "change", 7, right=True),
    TableColumn("kl", "KL", 8, right=True),
    TableColumn("shifts", "next tokens moved", 60),
)


class LabScreen(ConditionScreen):
    """Tokens with the change of their energy; below, the controls and each token's figures."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "ablate", "Ablate", id="lab.ablate", tooltip="Take the feature out"),
        Binding("plus,equals_sign", "strength(1)", "More", key_display="+", id="lab.more"),
        Binding("minus", "strength(-1)", "Less", key_display="-", id="lab.less"),
        Binding("t", "text", "Text", id="lab.text", tooltip="Another text"),
        Binding("g", "gains", "Gains", id="lab.gains", tooltip="Of a file, in place of one edit"),
        Binding("s", "steer", "Steer", id="lab.steer", tooltip="Generate with the feature added"),
        CONDITION,
        Binding("w", "keep", "Keep", id="lab.keep", tooltip="Store this as a run"),
        Binding("x", "cancel", "Cancel", show=False, id="lab.cancel"),
    ]
    HELP = """# Lab

The text is run clean, with the feature changed, and with three controls: the change with its sign
turned round, noise of the same length, and another feature of like strength. Under each token
stands by how many nats its energy (surprise at the next token) rose or fell.

Ablating sets what the feature writes to 0. The SAE then reads the edited text anew, and its encoder
may still find the feature in what other features and the error write, and at BOS, which no edit
touches: that is the number *read anew*.

**a** ablates the feature; **+** and **-** add to it in halves of its maximum; **t** takes another
text, **s** steers generation by the feature, **w** stores what is shown as a run. **g** takes a
file of gains that `energylens repair` wrote, in place of the one feature: all its features are
turned as it says, beside as many others with the same gains.

**o** takes a condition: the change is then made only at the tokens where it holds, marked by ▸. It
is a feature with a threshold, as in `285>2.0`, also of another SAE that reads before this one
writes, as in `blocks.1:285>2.0`, or the probe of a category, as in `python_probe`, which holds
where the category is more likely than not, or `python_probe>0.9`. Below the controls stands how
often it holds in the run's texts, and for the category it is surest of: how many of its tokens are
of that category (precision), and how many of the category's tokens it finds (recall); a probe is
judged on texts it did not learn on.
"""

    def __init__(self, place: Lab) -> None:
        super().__init__()
        self._feature, self._text = place.feature, place.text
        self._selection, self._feature_id = place.feature.selection, place.feature.feature_id
        self._strength = 0.0
        self._ablates = True
        self._gains: Path | None = None

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._selection.run, self._selection.sae)

    def address(self) -> Told:
        feature = f"{self._selection.sae.sae_id}:{self._feature_id}"
        shown = self.shown_with_condition("" if self._ablates else f"{self._strength:+g}")
        told = replace(super().address(), page="lab", feature=feature, show=shown)
        return replace(told, prompt=self._text)

    def take(self, told: Told) -> None:
        if told.show is not None:
            if strength := self.take_condition(told.show):
                self._ablates, self._strength = False, number_in(strength, self._strength)
            self._run()

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with VerticalScroll(id="pairs", can_focus=False):
            yield TokenPairs()
        yield Static("", id="controls", markup=False)
        yield VirtualTable(_COLUMNS, id="lab")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#lab").focus()
        self._run()

    @property
    def _edit(self) -> EditRequest:
        ids = (self._feature_id,)
        sae_id = self._selection.sae.sae_id
        if self._gains is not None:
            return EditRequest(sae_id, (), when=self.when, gains=str(self._gains))
        if self._ablates:
            return EditRequest(sae_id, ids, "ablate", when=self.when)
        return EditRequest(sae_id, ids, "add", self._strength, "max", when=self.when)

    @property
    def _what(self) -> str:
        if self._gains is not None:
            return f"gains of {visible(self._gains.name)} {self.only_where}".rstrip()
        done = "ablated" if self._ablates else f"{signed(self._strength)} of its maximum"
        return f"feature {self._feature_id} {done} {self.only_where}".rstrip()

    def run_again(self) -> None:
        self._run()

    def _run(self, keep: bool = False) -> None:
        self.ask_worker(
            f"{self._what}: running",
            f"intervene: {self._what}",
            "intervene",
            self._selection.run,
            InterventionRequest(self._text, self._edit, keep=keep),
            InterventionResult,
            self._show,
        )

    def _show(self, found: InterventionResult) -> None:
        clean, edited, *_ = found.conditions
        changes = [
            None if a is None or b is None else b - a
            for a, b in zip(clean.energies, edited.energies, strict=True)
        ]
        tokens = _marked(found)
        self.query_one(TokenPairs).show(tokens, changes)
        self.query_one("#controls", Static).update(visible_lines(_controls(found, self._edit)))
        rows = [
            (
                str(pos),
                visible_token(token),
                number(clean.energies[pos]),
                number(edited.energies[pos]),
                signed(changes[pos]),
                number(edited.kl[pos], 4),
                _shifts(found, pos),
            )
            for pos, token in enumerate(tokens)
        ]
        self.query_one("#lab", VirtualTable).show(string_rows(rows, [c.name for c in _COLUMNS]))
        kept = f"stored as {found.kept_as}" if found.kept_as else ""
        self.say(self._what, kept)

    def failed(self, error: EnergyLensError) -> None:
        self.query_one("#controls", Static).update(visible_lines(str(error)))
        self.say(self._what, "not run")

    def action_ablate(self) -> None:
        """Take the feature out."""
        self._ablates, self._strength, self._gains = True, 0.0, None
        self._run()

    def action_strength(self, direction: int) -> None:
        """Add more of the feature, or less."""
        self._ablates, self._gains = False, None
        self._strength += direction * STEP
        self._run()

    def action_text(self) -> None:
        """Ask for another text."""

        def given(text: str | None) -> None:
            if text:
                self._text = text
                self._run()

        self.app.push_screen(AskText("Text to run", self._text), given)

    def action_gains(self) -> None:
        """Ask for a file of gains."""

        def given(path: str | None) -> None:
            if path and path.strip():
                self._gains = Path(path.strip()).expanduser().absolute()
                self._run()

        told = "" if self._gains is None else str(self._gains)
        hint = "a file that energylens repair wrote; enter takes it"
        self.app.push_screen(AskLine("Gains to apply", told, hint), given)

    def action_steer(self) -> None:
        """Generate with the feature added."""
        prompt = shorten(self._text.split("\n\n")[0], _PROMPT, placeholder="")
        self.open_place(Steering(self._feature, prompt, self.when))

    def action_keep(self) -> None:
        """Store what is shown as a run."""
        self._run(keep=True)


def _marked(found: InterventionResult) -> list[str]:
    """The tokens; where there is a condition, those that were changed with a mark."""
    acted = found.conditions[1].acted
    if found.when is None or acted is None:
        return found.tokens
    pairs = zip(found.tokens, acted, strict=True)
    return [f"▸{visible_token(token)}" if is_changed else token for token, is_changed in pairs]


def _controls(found: InterventionResult, edit: EditRequest) -> str:
    lines = ["             energy    mean KL   largest"]
    for one in found.conditions[1:]:
        is_like_one = one.name == "like" and len(one.feature_ids) == 1
        other = one.feature_ids if is_like_one else []
        named = " ".join([one.name, *map(str, other)])
        mean = sum(one.kl) / len(one.kl)
        lines.append(
            f"{named:>11}  {signed(one.energy_change):>7}  {number(mean, 4):>9} "
            f"{number(max(one.kl), 4):>9}"
        )
    own = [f for f in found.features if _is_edited(f, edit)]
    others = [f for f in found.features if not _is_edited(f, edit)]
    moved = [_moved(f, edit) for f in others[:3]]
    lines += [_edited(f, edit.kind == "ablate") for f in own]
    if edit.gains is not None:
        lines.append(f"      turned  {len(found.conditions[1].feature_ids)} features")
    lines.append(f"     others  {'  '.join(moved) or 'none moved'}")
    if found.routing:
        routes = [f"L{r.layer} {100 * r.share_changed:.0f} %" for r in found.routing]
        lines.append(f"     routes  first choice changed: {'  '.join(routes)}")
    if found.when is not None:
        lines += _condition(found.when, found.conditions[1].acted or [])
    return "\n".join(lines)


def _condition(report: WhenReport, acted: list[bool]) -> list[str]:
    """Where the change was made, and what is known of that from the run's texts."""
    told = f"in the run at {100 * report.share:.3g} %"
    known = [rate for rate in report.rates if rate.precision is not None]
    surest = max(known, key=lambda rate: rate.precision or 0.0, default=None)
    if surest is not None:
        told += (
            f"; {surest.category}: precision {number(surest.precision, 2)}, "
            f"recall {number(surest.recall, 2)}"
        )
    return [
        f"       when  {report.condition} at {sum(acted)} of {len(acted)} tokens",
        f"             {told}",
    ]


def _is_edited(shift: FeatureShift, edit: EditRequest) -> bool:
    return shift.sae_id == edit.sae_id and shift.feature_id in edit.feature_ids


def _moved(shift: FeatureShift, edit: EditRequest) -> str:
    """What an edit made of another feature; its SAE is named where it is another one too."""
    of = "" if shift.sae_id == edit.sae_id else f" of {shift.sae_id}"
    return f"{shift.feature_id}{of} {number(shift.before)}→{number(shift.after)}"


def _edited(shift: FeatureShift, ablates: bool) -> str:
    """What an edit made of the feature itself, summed over the text. The edit sets what the feature
    writes; the SAE then reads the edited stream, in which all else still stands."""
    before, after = number(shift.before), number(shift.after)
    if not ablates or shift.after == 0:
        return f"    feature  {shift.feature_id} {before}→{after}"
    return (
        f"    feature  {shift.feature_id} {before}→0; read anew {after}, "
        "from other features and the error"
    )


def _shifts(found: InterventionResult, pos: int) -> str:
    moved = [shift for shift in found.shifts if shift.pos == pos]
    return visible(
        "  ".join(
            f"{visible_token(s.token)} {number(s.before, 2)}→{number(s.after, 2)}" for s in moved
        )
    )
