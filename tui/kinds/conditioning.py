"""Screens whose edit may act only at the tokens where a condition holds."""

from contextlib import suppress

from textual.binding import Binding

from energylens.errors import UsageError
from energylens.queries.display import visible
from energylens.tui.kinds.asking import AskingScreen
from energylens.tui.modals.ask_line import AskLine
from energylens.when import When, parse_when, when_told

_HINT = (
    "a feature, 285>2.0; of another SAE, blocks.1:285>2.0; a probe of a category, python_probe; "
    "nothing: everywhere"
)
CONDITION = Binding(
    "o", "condition", "Only", id="edit.when", tooltip="Only where a condition holds"
)
"""Stands where it belongs among a screen's own keys."""
_MARK = "when "
"""Before a condition in the words of an address."""


class ConditionScreen(AskingScreen):
    """Asks for a condition and keeps it."""

    when: When | None = None
    """None where the edit acts everywhere."""

    def run_again(self) -> None:
        """Ask the worker with the condition as it is now."""
        raise NotImplementedError

    @property
    def only_where(self) -> str:
        """The condition in words; empty where there is none."""
        return f"where {visible(when_told(self.when))}" if self.when else ""

    def shown_with_condition(self, show: str) -> str | None:
        """What an address shows of the screen, with the condition; None where it is nothing."""
        told = f"{_MARK}{when_told(self.when)}" if self.when else ""
        return " ".join(word for word in (show, told) if word) or None

    def take_condition(self, show: str) -> str:
        """Take the condition out of what an address shows; the rest."""
        rest, _, told = show.partition(_MARK)
        with suppress(UsageError):  # an address may say anything
            self.when = _condition(told)
        return rest.strip()

    def action_condition(self) -> None:
        """Ask where the edit acts."""
        self._ask(when_told(self.when) if self.when else "", _HINT)

    def _ask(self, told: str, hint: str) -> None:
        def given(text: str | None) -> None:
            if text is None:
                return
            try:
                self.when = _condition(text)
            except UsageError as error:
                self._ask(text, visible(str(error)))
            else:
                self.run_again()

        self.app.push_screen(AskLine("Change it only where", told, hint), given)


def _condition(text: str) -> When | None:
    return parse_when(text) if text.strip() else None
