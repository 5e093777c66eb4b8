"""Whether a store is as if nothing had happened to it, and whether it can be read meanwhile."""

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

from energylens.db.derived import INDEX_TABLES
from energylens.db.index_files import place_of
from energylens.db.schema import TABLES
from energylens.db.store import reread
from energylens.db.verify import verify_store
from energylens.errors import StoreError
from energylens.queries.catalog import open_catalog

_PAUSE = 0.1
"""Seconds between two looks, which the writer has for itself."""
CHANGES = {
    "runs": "created",
    "notes": "changed",
    "ratings": "changed",
    "explanation_scores": "scored",
}
"""Columns that tell the time."""


def contents(root: Path, is_store: bool) -> dict[str, Any]:
    """Every row of every table in the order of its key, and the name of every file; of what is no
    store, what every file holds."""
    files = sorted(place_of(str(path.relative_to(root))) for path in root.rglob("*"))
    if not is_store:
        return {name: _digest(root / name) for name in files}
    rows: dict[str, Any] = {"files": files}
    with open_catalog(root) as opened:
        for name, table in TABLES.items():
            left_out = f" EXCLUDE ({CHANGES[name]})" if name in CHANGES else ""
            order = ", ".join(table.key)
            found = opened.cursor().execute(f"SELECT * {left_out} FROM {name} ORDER BY {order}")
            rows[name] = json.loads(json.dumps(found.fetchall(), default=repr))
    return rows


def _digest(path: Path) -> str:
    if not path.is_file() or path.suffix == ".parquet":  # the log of a training has times
        return ""
    content = path.read_bytes()
    if path.suffix == ".safetensors":  # its header is written in any order
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.dumps(json.loads(content[8:end]), sort_keys=True)
        content = header.encode() + content[end:]
    return hashlib.sha256(content).hexdigest()


def check(root: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises AssertionError where something differs, or `verify` finds something."""
    if "files" not in wanted:
        assert found == wanted, f"{set(found.items()) ^ set(wanted.items())}"
        return
    problems = verify_store(root)
    assert not problems, problems
    derived = {table.name for table in INDEX_TABLES}
    for name, rows in wanted.items():
        assert len(rows) == len(found[name]), (
            f"{name}: {set(map(str, found[name])) ^ set(map(str, rows))}"
        )
        for one, two in zip(rows, found[name], strict=True):
            assert alike(one, two, exactly=name not in derived), f"{name}: {one} was {two}"


def alike(one: Any, two: Any, exactly: bool) -> bool:
    """DuckDB's threads add up the numbers of the index in any order."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return all(alike(x, y, exactly) for x, y in zip(one, two, strict=True))
    if isinstance(one, float) and isinstance(two, float) and not exactly:
        return math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-9) or repr(one) == repr(two)
    return repr(one) == repr(two)


def read_through(root: Path, done: Path, is_new: bool) -> None:
    """Open the store and read every table, again and again, until there is a file `done`; a store
    that is new may not be there at first. Whatever else is raised is a defect."""
    was_there = False
    while not (done.exists() and was_there):
        time.sleep(_PAUSE)
        is_last = done.exists()
        if is_new and not was_there and not (root / "store.json").exists():
            if is_last:
                return
            continue
        try:
            with open_catalog(root) as opened:
                for name in TABLES:
                    asked = f"SELECT count(*), count(COLUMNS(*)) FROM {name}"
                    reread(opened, lambda q=asked: opened.cursor().execute(q).fetchall())
        except StoreError as error:
            if not (is_new and not was_there and "cannot be listed" in str(error)):
                raise RuntimeError(f"a reader was refused: {error}") from error
            continue
        was_there = True
