"""SQL statements that outlive a session: those that ran, and those saved under a name."""

import json
import re
from pathlib import Path

from platformdirs import user_config_path, user_state_path

from energylens.db.whole import writing
from energylens.errors import UsageError
from energylens.queries.display import visible
from energylens.queries.writing import whole_file
from energylens.tui.fuzzy import Entry

MOST = 500
"""Statements of the history that are kept."""


def history_path() -> Path:
    """One JSON string a line, the newest last."""
    return user_state_path("energylens") / "sql-history.jsonl"


def saved_path() -> Path:
    """A file a statement, for any editor: `<name>.sql`."""
    return user_config_path("energylens") / "queries"


def history() -> list[str]:
    """Statements that ran, the newest first; none where the file cannot be read."""
    try:
        lines = history_path().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in reversed(lines):
        try:
            statement = json.loads(line)
        except ValueError:
            continue  # a line that was cut off
        if isinstance(statement, str):
            found.append(statement)
    return list(dict.fromkeys(found))[:MOST]


def remember(statement: str) -> None:
    """Put a statement at the end of the history; a directory that cannot be written keeps none."""
    text = statement.strip()
    known = history()
    if not text or known[:1] == [text]:
        return
    kept = [text, *(old for old in known if old != text)][:MOST]
    keep_if_possible(history_path(), "".join(f"{json.dumps(s)}\n" for s in reversed(kept)))


def keep_if_possible(path: Path, text: str) -> None:
    """Replace a file with a text; a directory that cannot be written keeps what it has."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        return


def saved() -> dict[str, str]:
    """Saved statements by name."""
    found = {}
    for path in sorted(saved_path().glob("*.sql")):
        try:
            found[path.stem] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return found


def save(name: str, statement: str) -> Path:
    """Keep a statement under a name, in place of one of that name.

    Raises:
        UsageError: the name is none for a file.
        StoreError: the file cannot be written; the one of before stays.
    """
    if not re.fullmatch(r"[\w -]{1,60}", name):
        raise UsageError(f"'{name}' is no name: letters, digits, spaces, - and _ make one")
    path = saved_path() / f"{name}.sql"
    with writing(f"'{path}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(statement.rstrip() + "\n", encoding="utf-8")
    return path


def on_one_line(text: str) -> str:
    """A statement as it stands in a list."""
    return visible(" ".join(text.split()))


def kept_entries() -> list[Entry[str]]:
    """Saved statements, then those that ran, to choose from."""
    entries = [Entry(name, text, on_one_line(text)) for name, text in saved().items()]
    return entries + [Entry(on_one_line(text), text) for text in history()]
