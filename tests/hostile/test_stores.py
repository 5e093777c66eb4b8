"""A store from a stranger with something else in the place of any file: nothing outside it is
touched, nobody waits for a pipe, and what is said is a sentence."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.db.claim import holder_of
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.merge import merge_stores
from energylens.db.notes import Note, write_note
from energylens.db.progress import writings
from energylens.db.provenance import read_run
from energylens.db.verify import verify_store
from energylens.errors import EnergyLensError, StoreDamagedError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.progress import Progress
from energylens.queries.catalog import call, open_catalog, write_catalog
from tests.db.test_places import changed
from tests.hostile.conftest import IS_LONG

_PATIENCE = 120
"""Seconds after which a use is taken to wait for ever."""


def _opened(store: Path) -> None:
    with open_catalog(store) as opened:
        con = opened.cursor()
        for table in ("notes", "explanations", "codes", "features", "feature_effects"):
            con.execute(f"SELECT count(*), max(run_id) FROM {table}").fetchall()


def _noted(store: Path) -> None:
    write_note(_run(store), Note("r", "one", 1, is_starred=True))


def _run(store: Path) -> RunLayout:
    runs = sorted((store / "runs").glob("*"))
    return RunLayout(runs[0] if runs else store / "runs" / "r")


def _merged(store: Path) -> None:
    try:
        merge_stores(store.parent / "merged.lens", [store])
    finally:
        shutil.rmtree(store.parent / "merged.lens", ignore_errors=True)


READING: tuple[Callable[[Path], Any], ...] = (_opened, verify_store, writings, _merged)
WRITING: tuple[Callable[[Path], Any], ...] = (_noted, write_catalog, clean_store)
STORED = (
    "store.json", "sums.json", "catalog.duckdb", "runs", "{run}", "{run}/run.json",
    "{run}/sums.json", "{run}/notes.parquet", "{run}/explanations.parquet", "{run}/shards",
    "{run}/shards/000000", "{run}/shards/000000/manifest.json",
    "{run}/shards/000000/codes.parquet", "{run}/index", "{run}/index/manifest.json",
    "{run}/index/features/one@*.parquet", "{run}/measured", "{run}/measured/manifest.json",
)  # fmt: skip
HELD = (
    ".store.lock", ".store.json.partial", ".sums.json.partial", ".catalog.duckdb.partial",
    "{run}/.run.lock", "{run}/.sums.json.partial", "{run}/.notes.parquet.partial",
    "{run}/.index.lock", "{run}/.index.partial", "{run}/.index.old",
    "{run}/shards/.000000.lock", "{run}/shards/.000000.partial",
)  # fmt: skip
"""Where commands write while they work."""


@pytest.fixture(scope="module")
def home(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stores")
    path = Path(shutil.copytree(rich_path, root / "home" / "x.lens"))
    write_catalog(path)
    (root / "victim" / "kept").mkdir(parents=True)
    (root / "victim" / "file").write_text("kept")
    return path


@contextmanager
def within_time() -> Iterator[None]:
    def late(_: int, __: FrameType | None) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


def _link(place: Path, victim: Path) -> None:
    place.symlink_to(victim / "file")


def _way_out(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def _state(folder: Path) -> dict[str, str | None]:
    return {
        str(path): path.read_text() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


_ODD = (_pipe, _link, _way_out)
_USES = (*READING, *WRITING)
_TRIED = [
    (place, odd, _USES if IS_LONG else _USES[number % 3 :: 3])
    for number, place in enumerate((*STORED, *HELD))
    for odd in (_ODD if IS_LONG else _ODD[number // 3 % 3 : number // 3 % 3 + 1])
]
"""All of them in a long run; each place with one, and with a third of the uses, in a short one."""


@pytest.mark.parametrize(("place", "odd", "uses"), _TRIED)
def test_what_is_no_file_of_ours_leads_nowhere(
    home: Path,
    place: str,
    odd: Callable[[Path, Path], None],
    uses: tuple[Callable[[Path], Any], ...],
) -> None:
    victim, around = home.parents[1] / "victim", home.parent
    name = place.format(run=_run(home).root.relative_to(home))
    path = next(home.glob(name)) if "*" in name else home / name
    aside = home.parents[1] / "aside"
    kept = home.parents[1] / "whole"
    shutil.copytree(home, kept)
    try:
        if os.path.lexists(path):
            path.rename(aside)
        odd(path, victim)
        before = _state(victim)
        for use in uses:
            with within_time(), suppress(EnergyLensError):
                use(home)
            assert _state(victim) == before, use
            assert [one.name for one in around.iterdir()] == [home.name], use
    finally:
        shutil.rmtree(home)
        kept.rename(home)
        if aside.is_dir():
            shutil.rmtree(aside)
        aside.unlink(missing_ok=True)


def test_a_link_is_not_written_through(home: Path) -> None:
    victim = home.parents[1] / "victim" / "file"
    for name in (".run.lock", ".sums.json.partial", ".notes.parquet.partial"):
        (_run(home).root / name).symlink_to(victim)
    with pytest.raises(StoreDamagedError, match=r"run\.lock' is a link"):
        _noted(home)
    (_run(home).root / ".run.lock").unlink()
    _noted(home)
    assert victim.read_text() == "kept"
    assert verify_store(home) == []


def test_a_lock_that_is_a_pipe_or_endless_names_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    with within_time():
        assert holder_of(tmp_path / "pipe") is None
        assert holder_of(tmp_path / "endless") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_ctx", 0), ("n_ctx", -1), ("n_ctx", 10**18), ("n_tokens", 2**63), ("n_tokens", -1),
        ("n_tokens", 10**400), ("n_shards", -1), ("lens_layers", [2**70]), ("d_model", 0),
        ("created", "\ud800"), ("versions", {"\udcff": "x"}), ("n_texts", 1.5),
    ],
)  # fmt: skip
def test_numbers_and_texts_that_no_run_has_are_told(home: Path, field: str, value: object) -> None:
    record = _run(home).run_json
    content = record.read_bytes()
    changed(record, lambda raw: raw.update({field: value}))
    try:
        for use in (open_catalog, _merged):
            with pytest.raises(StoreDamagedError, match=r"run\.json"):
                use(home)
    finally:
        record.write_bytes(content)


def test_a_parquet_file_that_declares_a_thousand_million_rows(home: Path) -> None:
    """It says so and holds three: a count believes it, whatever reads the rows is an error."""
    shard = StoreLayout(home).runs()[0].shard(0)
    path, manifest = shard / "tokens.parquet", shard / "manifest.json"
    kept = path.read_bytes(), manifest.read_bytes()
    bomb = _declaring(pq.read_table(path).slice(0, 3), 10**9)
    path.write_bytes(bomb)

    def declare(raw: dict[str, Any]) -> None:
        entry = next(e for e in raw["files"] if e["table"] == "tokens")
        entry.update(rows=10**9, n_bytes=len(bomb))

    changed(manifest, declare)
    try:
        with within_time():
            assert any("tokens.parquet" in one.where for one in verify_store(home))
            run = read_run(StoreLayout(home).runs()[0].run_json).run_id
            with suppress(EnergyLensError), open_catalog(home) as opened:
                call(opened, "energy_by_layer", run=run)
            with suppress(EnergyLensError):
                build_indexes(home, Progress(), n_flips=3)
    finally:
        path.write_bytes(kept[0])
        manifest.write_bytes(kept[1])


def _declaring(table: pa.Table, rows: int) -> bytes:
    """A Parquet file whose footer tells of more rows than there are: the count of three, a zigzag
    varint in Thrift, is put to another of as many bytes as needed."""
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="none", use_dictionary=False)
    content = out.getvalue().to_pybytes()
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], content[-8 - length : -8]
    footer = footer.replace(b"\x16\x06", b"\x16" + _varint(2 * rows))
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def test_a_manifest_may_hold_any_text_and_number(home: Path) -> None:
    manifest = StoreLayout(home).runs()[0].shard(0) / "manifest.json"
    content = manifest.read_bytes()
    fields = ("table", "path", "rows", "n_bytes", "sha256")
    values = ("\ud800", "x\0", 10**400, -1, None, [], {"a": 1}, "\x1b]0;x\x07", "\u202e")
    for number, value in enumerate(values):
        for field in fields if IS_LONG else (fields[number % 5],):
            raw = json.loads(content)
            raw.pop("seal", None)
            raw["files"][0][field] = value
            manifest.write_text(json.dumps(raw))
            with suppress(EnergyLensError):
                open_catalog(home).close()
    manifest.write_bytes(content)
