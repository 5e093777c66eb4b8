"""Ingests that are known by a name: what model, SAEs, texts and settings.

A preset is a TOML file NAME.toml, of those that come along or in the folder `presets` of the user's
configuration folder; of two of one name the user's own is meant.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from energylens.builtin import PRESETS
from energylens.errors import UnknownNameError, UsageError
from energylens.queries.names import nearest
from energylens.user_toml import read_toml, user_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a preset's file may hold; each field but the first and the last is the option of
    `energylens ingest` of that name, and None leaves it as it is by default."""

    about: str
    """A line for the list."""
    model: str | None = None
    texts: str | None = None
    saes: tuple[str, ...] | None = None
    hooks: tuple[str, ...] | None = None
    energies: str | None = None
    keep: str | None = None
    n_ctx: Annotated[int, msgspec.Meta(ge=1)] | None = None
    efas: str | None = None
    bos: bool | None = None
    coder: str | None = None
    dtype: str | None = None
    batch_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    needs: tuple[str, ...] = ()
    """What has to be there besides the models extra, in words."""

    @property
    def given(self) -> dict[str, Any]:
        """The options it gives, by the names of the fields."""
        options = (name for name in self.__struct_fields__ if name not in ("about", "needs"))
        return {name: value for name in options if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Listed:
    """A preset's file."""

    name: str
    path: Path
    is_own: bool
    """It lies in the user's folder."""


def own_folder() -> Path:
    """Where a user's presets lie."""
    return user_folder() / "presets"


def presets() -> list[Listed]:
    """Every preset there is, by name; a user's own hides one of its name that came along.

    Raises:
        UsageError: the user's folder cannot be listed.
    """
    found = {one.name: one for folder in (PRESETS, own_folder()) for one in _files(folder)}
    return [found[name] for name in sorted(found)]


def read_preset(listed: Listed) -> Preset:
    """What a preset's file holds.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    raw = read_toml(listed.path)
    try:
        return msgspec.convert(raw, Preset)
    except msgspec.ValidationError as error:
        fields = ", ".join(Preset.__struct_fields__)
        raise UsageError(
            f"'{listed.path}' is no preset: {error}; it may hold {fields}, as the options of "
            "energylens ingest do"
        ) from error


def find_preset(name: str) -> Preset:
    """The preset of a name. The name is looked up among those there are; it is never a path.

    Raises:
        UnknownNameError: there is none of that name.
        UsageError: its file cannot be read, or holds something else.
    """
    listed = presets()
    for one in listed:
        if one.name == name:
            return read_preset(one)
    near = ", ".join(nearest(name, [one.name for one in listed]))
    raise UnknownNameError(
        f"there is no preset '{name}'; nearest: {near}; your own go into '{own_folder()}'"
    )


def _files(folder: Path) -> Iterator[Listed]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UsageError(f"the presets in '{folder}' cannot be listed: {error.strerror}") from error
    for file in names:
        name = file.removesuffix(".toml")
        if name != file and _NAME.fullmatch(name):
            yield Listed(name, folder / file, folder != PRESETS)
