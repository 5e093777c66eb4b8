"""The phases of a start, and how long they took when they were last gone through here."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from platformdirs import user_state_path

from energylens.errors import EnergyLensError
from energylens.queries.writing import whole_file

MOST = 200
"""Phases that are remembered."""
Tell = Callable[[str, float | None], None]
"""Hears the phase that begins, and the seconds to go, if all that comes is known."""


class Phases:
    """Goes through named phases in their order; what is known of each is kept between starts."""

    def __init__(self, names: Sequence[str], tell: Tell) -> None:
        self._names, self._tell = list(names), tell
        self._known, self._took = _read(), {}
        self._began = 0.0
        self._current: str | None = None

    def begin(self, name: str) -> None:
        """The next phase begins, and the one before has ended."""
        self.end()
        self._current, self._began = name, time.monotonic()
        rest = self._names[self._names.index(name) :]
        known = [self._known[one] for one in rest if one in self._known]
        self._tell(name, sum(known) if len(known) == len(rest) else None)

    def end(self) -> None:
        """The phase has ended."""
        if self._current is not None:
            self._took[self._current] = round(time.monotonic() - self._began, 3)
            self._current = None

    def keep(self) -> None:
        """All have ended: remember how long they took."""
        self.end()
        kept = {name: took for name, took in self._known.items() if name not in self._took}
        text = json.dumps(dict([*kept.items(), *self._took.items()][-MOST:]), indent=1)
        with suppress(OSError, EnergyLensError):  # what is not kept is measured the next time
            _path().parent.mkdir(parents=True, exist_ok=True)
            with whole_file(_path()) as partial:
                partial.write_text(text, encoding="utf-8")


def _path() -> Path:
    return user_state_path("energylens") / "worker-starts.json"


def _read() -> dict[str, float]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: took for name, took in found.items() if type(took) is float and 0 <= took < 1e6}
