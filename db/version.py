"""The store's format version: refuse a newer one, upgrade an older one step by step."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from energylens.db.claim import PATIENCE, claim
from energylens.db.layout import StoreLayout
from energylens.db.whole import partial_of, write_whole, writing
from energylens.errors import StoreError, StoreVersionError

FORMAT = 1
"""The format this program writes."""

Upgrade = Callable[[Path], None]
"""Brings a store directory from one format to the next."""

UPGRADES: Mapping[int, Upgrade] = {}
"""By the format each one starts from."""


def create_store(path: Path) -> None:
    """Make an empty store, or check that what is there is one.

    Raises:
        StoreError: the directory holds something else, or cannot be written.
        StoreVersionError: another format version wrote it and it cannot be upgraded.
    """
    layout = StoreLayout(path)
    if not layout.store_json.exists():
        if path.exists() and not (path.is_dir() and _is_free(layout)):
            raise StoreError(f"'{path}' exists and is no store; give a path that is free")
        with claim(layout.lock, f"the store '{path}'", "try again", PATIENCE):
            if not layout.store_json.exists():
                with writing(f"the store '{path}'", "nothing was there before"):
                    (path / "runs").mkdir(exist_ok=True)
                    _write_format(layout, FORMAT)
    check_format(path)


def _is_free(layout: StoreLayout) -> bool:
    """Whether a directory holds nothing but what making a store leaves where it is stopped."""
    ours = {layout.lock.name, partial_of(layout.store_json).name, "store.partial"}
    rest = [path for path in layout.root.iterdir() if path.name not in ours]
    return all(path.name == "runs" and path.is_dir() and not any(path.iterdir()) for path in rest)


def check_format(path: Path, upgrades: Mapping[int, Upgrade] = UPGRADES) -> None:
    """Refuse what this program cannot read; upgrade what it can.

    Raises:
        StoreError: there is no store.
        StoreVersionError: the store is newer, too old, or does not state its format.
    """
    layout = StoreLayout(path)
    if not layout.store_json.is_file():
        raise StoreError(
            f"there is no store at '{path}' (no store.json); "
            f"make one with: energylens ingest {path} --model ... --texts ..."
        )
    try:
        found = int(json.loads(layout.store_json.read_text(encoding="utf-8"))["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreVersionError(
            f"'{layout.store_json}' does not state a format ({error})"
        ) from error
    if found > FORMAT:
        raise StoreVersionError(
            f"'{path}' has store format {found}, this program reads up to {FORMAT}; "
            "install a newer Energy-Lens"
        )
    while found < FORMAT:
        if found not in upgrades:
            raise StoreVersionError(
                f"'{path}' has store format {found}, which this program no longer reads; "
                "ingest the texts again"
            )
        upgrades[found](path)
        found += 1
        _write_format(layout, found)


def _write_format(layout: StoreLayout, version: int) -> None:
    write_whole(layout.store_json, json.dumps({"format": version}) + "\n")
