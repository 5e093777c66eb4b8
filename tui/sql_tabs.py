"""The statements one is at work on: some tabs, which the next start finds again."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from platformdirs import user_state_path

from energylens.tui.statements import keep_if_possible

FIRST = """SELECT category, count(*) AS texts, sum(n_tokens) AS tokens
FROM texts GROUP BY ALL ORDER BY ALL"""
MOST = 20
"""Tabs that may be open."""


@dataclass(frozen=True)
class SqlTab:
    """What stands in the editor, and what of it ran last."""

    text: str = ""
    ran: str | None = None
    """The statement whose rows were shown last; None where none was run."""

    @property
    def title(self) -> str:
        """Its first words."""
        return " ".join(self.text.split())[:24] or "empty"


@dataclass(frozen=True)
class SqlTabs:
    """Tabs, one of which is open; there is always one."""

    tabs: tuple[SqlTab, ...] = (SqlTab(FIRST, FIRST),)
    current: int = 0

    @property
    def open(self) -> SqlTab:
        """The tab in view."""
        return self.tabs[self.current]

    def put(self, tab: SqlTab) -> "SqlTabs":
        """The same with another content of the open tab."""
        tabs = list(self.tabs)
        tabs[self.current] = tab
        return replace(self, tabs=tuple(tabs))

    def added(self, tab: SqlTab) -> "SqlTabs":
        """With one more behind the open one, which is opened; the open one where there are MOST."""
        if len(self.tabs) >= MOST:
            return self.put(tab)
        here = self.current + 1
        return SqlTabs((*self.tabs[:here], tab, *self.tabs[here:]), here)

    def closed(self) -> "SqlTabs":
        """Without the open one; the last one is emptied."""
        left = (*self.tabs[: self.current], *self.tabs[self.current + 1 :])
        return SqlTabs(left or (SqlTab(),), min(self.current, max(len(left) - 1, 0)))

    def turned(self, by: int) -> "SqlTabs":
        """With another one open, round the ends."""
        return replace(self, current=(self.current + by) % len(self.tabs))


def tabs_path() -> Path:
    """Where tabs are kept between two starts."""
    return user_state_path("energylens") / "sql-tabs.json"


def read_tabs() -> SqlTabs:
    """The tabs of the last start; one with a first statement where none can be read."""
    try:
        found = json.loads(tabs_path().read_text(encoding="utf-8"))
        tabs = tuple(_tab(one) for one in found["tabs"][:MOST])
        current = int(found["current"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return SqlTabs()
    return SqlTabs(tabs, min(max(current, 0), len(tabs) - 1)) if tabs else SqlTabs()


def _tab(raw: Any) -> SqlTab:
    text, ran = raw["text"], raw["ran"]
    if not isinstance(text, str) or not isinstance(ran, str | None):
        raise TypeError("a tab holds text")
    return SqlTab(text, ran)


def keep_tabs(tabs: SqlTabs) -> None:
    """Keep tabs for the next start; a directory that cannot be written keeps none."""
    keep_if_possible(tabs_path(), json.dumps(asdict(tabs)))
