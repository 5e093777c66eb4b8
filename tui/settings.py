"""What a user sets once: `settings.toml` in the configuration directory.

theme = "nord"            # any of Textual's themes
animation = false         # off by itself over ssh
rater = "ada"             # whose ratings and notes yours are; else the name you logged in with

[columns]                 # of lists, in their order, hidden ones with a -; O chooses them
"features.list" = ["feature_id", "label", "-note"]

[keys]                    # a binding's id = its keys; `energylens keys` lists them
"features.filter" = "slash,ctrl+f"
"""

import difflib
import getpass
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from energylens.db.whole import writing
from energylens.errors import UsageError
from energylens.queries.writing import whole_file
from energylens.user_toml import read_toml, user_folder

FILE = "settings.toml"
_KNOWN = ("theme", "animation", "rater", "columns", "keys")


@dataclass(frozen=True)
class Settings:
    """What stands in the file; defaults where nothing does."""

    theme: str = "textual-dark"
    animation: bool | None = None
    """None leaves it on, but not over ssh."""
    rater: str | None = None
    """Who rates features here; None is whoever is logged in."""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys by the id of a binding."""
    columns: dict[str, list[str]] = field(default_factory=dict)
    """Columns of a list by its name, in their order, hidden ones with a - before them."""


def settings_path() -> Path:
    """Where the file is looked for: under XDG_CONFIG_HOME, or what stands for it here."""
    return user_folder() / FILE


def read_settings(
    path: Path, themes: Iterable[str], binding_ids: Iterable[str], is_key: Callable[[str], bool]
) -> Settings:
    """The settings of a file; the defaults where there is none.

    Raises:
        UsageError: the file cannot be read, or names a setting, theme or binding there is not.
    """
    raw = read_toml(path)
    for name in raw:
        _check(path, "setting", name, _KNOWN)
    theme, animation = raw.get("theme", "textual-dark"), raw.get("animation")
    rater, keys = raw.get("rater"), raw.get("keys", {})
    if not isinstance(theme, str) or not isinstance(animation, bool | None):
        raise UsageError(f"'{path}': theme takes a name in quotes, animation true or false")
    if rater is not None and not (isinstance(rater, str) and rater.strip()):
        raise UsageError(f"'{path}': rater takes a name in quotes")
    if "theme" in raw:
        _check(path, "theme", theme, themes)
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise UsageError(f'\'{path}\': [keys] takes lines like "app.quit" = "ctrl+q,f10"')
    known = sorted(binding_ids)
    for name, pressed in keys.items():
        _check(path, "binding", name, known)
        for key in pressed.split(","):
            if not is_key(key.strip(" ") or key):
                raise UsageError(
                    f"'{path}' gives '{name}' the key '{key}', which there is not; keys are called "
                    "like f10, ctrl+q, slash, shift+tab, with commas between several"
                )
    return Settings(theme, animation, rater, keys, _columns(path, raw))


def keep_columns(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Write the table [columns] of the file in place of the one there; all else stays as it is.

    Raises:
        UsageError: the file cannot be read, or its table cannot be told from the rest.
        StoreError: the file cannot be written.
    """
    before = read_toml(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    told = "".join(
        f"{_quoted(name)} = [{', '.join(map(_quoted, listed))}]\n"
        for name, listed in columns.items()
    )
    kept = _without_table(text, "columns").rstrip()
    new = f"{kept}\n\n[columns]\n{told}".lstrip()
    rest = {name: value for name, value in before.items() if name != "columns"}
    try:
        is_same = tomllib.loads(new) == {**rest, "columns": {n: [*c] for n, c in columns.items()}}
    except tomllib.TOMLDecodeError:
        is_same = False
    if not is_same:
        raise UsageError(f"'{path}' is not written: its [columns] cannot be told from the rest")
    with writing(f"'{path.parent}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(new, encoding="utf-8")


def _columns(path: Path, raw: dict[str, Any]) -> dict[str, list[str]]:
    columns = raw.get("columns", {})
    is_read = isinstance(columns, dict) and all(
        isinstance(listed, list) and all(isinstance(name, str) for name in listed)
        for listed in columns.values()
    )
    if not is_read:
        said = '[columns] takes lines like "features.list" = ["feature_id", "-note"]'
        raise UsageError(f"'{path}': {said}")
    return columns


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without_table(text: str, name: str) -> str:
    """The lines of a TOML file that are not of one of its tables."""
    kept, is_inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            is_inside = line.split("#")[0].strip() == f"[{name}]"
        if not is_inside:
            kept.append(line)
    return "\n".join(kept)


def _check(path: Path, what: str, name: str, known: Iterable[str]) -> None:
    listed = list(known)
    if name not in listed:
        near = difflib.get_close_matches(name, listed, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(listed)}"
        raise UsageError(f"'{path}' sets the {what} '{name}', which there is not; {hint}")


def login_name() -> str | None:
    """Who is logged in; None where that has no name."""
    try:
        return getpass.getuser() or None
    except (KeyError, OSError, ImportError):  # no such user on this machine, as in some containers
        return None
