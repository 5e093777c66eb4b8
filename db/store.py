"""Open a store: an in-memory DuckDB catalogue over what is complete on disk.

Nothing on disk is locked or written, so any number of readers work while writers append.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakSet

import duckdb

from energylens.db.claim import claim
from energylens.db.index_files import IndexState, index_state
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.limits import Limits, spill_bytes
from energylens.db.provenance import RunInfo, read_run
from energylens.db.sources import CATALOG_MACROS, pattern_of, quote_all, relative_to
from energylens.db.sums import replace_listed
from energylens.db.template import install
from energylens.db.version import check_format, raise_format
from energylens.db.views import fill_views, schema_statements
from energylens.db.whole import fresh_partial, sync, writing
from energylens.errors import EnergyLensError, StoreDamagedError, StoreError

_PATIENCE = 30.0
"""Seconds to wait for another process that writes the catalogue, which takes one or two."""
_CLOSING = 10.0
"""Seconds that closing waits for queries to notice."""
_TRIES = 5
"""An index may be replaced once more while the store is read anew."""

Found = TypeVar("Found")


class Cursors(Protocol):
    """What hands out cursors."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor for the calling thread."""
        ...


class Reader(Cursors, Protocol):
    """What hands out cursors and knows its runs: a store, or a session on one."""

    @property
    def infos(self) -> list[RunInfo]:
        """The runs that names are looked up in."""
        ...

    def refresh(self) -> None:
        """Take in what has become complete."""
        ...


@dataclass(frozen=True)
class RunState:
    """How far one run of the store has come."""

    info: RunInfo
    n_complete: int
    """Shards that are complete, of `info.n_shards`."""
    index: IndexState


class Store:
    """An open store; made by `open_store`, closed by `close` or a `with` block."""

    def __init__(
        self,
        path: Path,
        con: duckdb.DuckDBPyConnection,
        runs: list[RunState],
        limits: Limits | None = None,
    ) -> None:
        self.path, self.runs = path, runs
        self.limits = limits or Limits()
        """What a user's query may take here."""
        self._con = con
        self._cursors: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        self._lock = threading.Lock()
        self._filling = threading.Lock()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of one's own; each thread needs one, and interrupts its own only.

        Raises:
            duckdb.ConnectionException: the store has been closed.
        """
        with self._lock:
            cursor = self._con.cursor()
            self._cursors.add(cursor)
            return cursor

    @property
    def infos(self) -> list[RunInfo]:
        """The records of its runs, in order of their names."""
        return [state.info for state in self.runs]

    @property
    def layout(self) -> StoreLayout:
        """Where the store lies."""
        return StoreLayout(self.path)

    def run(self, run_id: str) -> RunState:
        """One run by its id.

        Raises:
            StoreError: there is no such run.
        """
        for state in self.runs:
            if state.info.run_id == run_id:
                return state
        known = ", ".join(state.info.run_id for state in self.runs) or "none yet"
        raise StoreError(f"'{self.path}' has no run '{run_id}'; its runs: {known}")

    def refresh(self) -> None:
        """Take in what has become complete since the store was opened; cursors go on.

        Raises:
            StoreDamagedError: a record cannot be read, or a file that one lists is not there.
        """
        with self._filling:
            listed = [(run, read_run(run.run_json)) for run in self.layout.runs()]
            fill_views(self.cursor(), self.layout, listed)
            self.runs[:] = [_state(run, info) for run, info in listed]

    def close(self) -> None:
        """Interrupt what still runs, and close the catalogue and all its cursors.

        A query that does not heed it within some seconds is left to end with the process.
        """
        until = time.monotonic() + _CLOSING
        with self._lock:
            while time.monotonic() < until:
                for cursor in self._cursors:
                    with suppress(duckdb.ConnectionException):  # closed by its last user
                        cursor.interrupt()
                try:
                    self._con.close()
                    return
                except duckdb.ResourceInUseException:  # a query has yet to notice
                    time.sleep(0.005)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Session:
    """Cursors that can be interrupted together, from any thread.

    Interrupting a connection does not stop its cursors, so each task that may be cancelled reads
    through a session of its own.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()
        self.is_interrupted = False

    @property
    def infos(self) -> list[RunInfo]:
        """The records of the store's runs."""
        return self._store.infos

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor that `interrupt` reaches.

        Raises:
            duckdb.InterruptException: the session has been interrupted.
        """
        with self._lock:
            if self.is_interrupted:
                raise duckdb.InterruptException("interrupted before it began")
            cursor = self._store.cursor()
            self._cursors.append(cursor)
            return cursor

    def refresh(self) -> None:
        """As the store's."""
        self._store.refresh()

    def interrupt(self) -> None:
        """Stop what runs, and whatever would still begin."""
        with self._lock:
            self.is_interrupted = True
            for cursor in self._cursors:
                cursor.interrupt()


def open_store(path: Path, limits: Limits | None = None, macros: Sequence[str] = ()) -> Store:
    """Open the complete runs, shards and indexes of a store for reading, with macros over them;
    `limits` None are the defaults.

    Raises:
        StoreError: there is no store at `path`.
        StoreVersionError: its format is not one this program reads.
        StoreDamagedError: a record of it cannot be read.
    """
    check_format(path)
    layout = StoreLayout(path.resolve())
    runs = [(run, read_run(run.run_json)) for run in layout.runs()]
    limits = limits or Limits()
    con = duckdb.connect(":memory:")
    try:
        con.execute(f"SET memory_limit = '{limits.memory}B'")
        con.execute(f"SET max_temp_directory_size = '{spill_bytes()}B'")
        con.execute("SET GLOBAL python_enable_replacements = false")
        con.execute(
            "SET GLOBAL parquet_metadata_cache = true"
        )  # cursors do not inherit a plain SET
        con.execute("SET autoinstall_known_extensions = false")
        spill = Path(tempfile.gettempdir(), f"energylens-{os.getpid()}-{id(con):x}")
        con.execute("SET temp_directory = ?", [str(spill)])  # DuckDB lets SQL read this folder
        install(con, [*schema_statements(), *macros])
        fill_views(con, layout, runs)
        states = [_state(run, info) for run, info in runs]
    except (duckdb.Error, UnicodeDecodeError) as error:  # the latter: DuckDB tells a damaged name
        con.close()
        raise StoreDamagedError(
            f"a file of '{path}' cannot be read ({error}); find it with: energylens verify {path}"
        ) from error
    except BaseException:
        con.close()
        raise
    return Store(path, con, states, limits)


def reread(reader: Reader, read: Callable[[], Found]) -> Found:
    """What `read` finds. Where it fails because a file has gone, an index was replaced since the
    store was opened: then the store is read anew, and `read` is called again.

    Raises:
        StoreDamagedError: a file is not there that should be.
    """
    for _ in range(_TRIES - 1):
        try:
            return read()
        except (duckdb.IOException, EnergyLensError) as error:
            if not isinstance(error, duckdb.IOException) and not isinstance(
                error.__cause__, duckdb.IOException
            ):
                raise
            reader.refresh()
    return read()


def confine(store: Store) -> None:
    """Forbid this catalogue, for good, to touch anything outside the store."""
    con = store.cursor()
    here = store.path.resolve()
    allowed = quote_all((str(here), pattern_of(here)))  # DuckDB asks for both
    con.execute(f"SET allowed_directories = {allowed}")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def write_catalog_file(store_path: Path, macros: list[str]) -> None:
    """Write `catalog.duckdb`: the same tables and the given macros for the plain duckdb shell.

    Raises:
        StoreError: the file cannot be written.
    """
    layout = StoreLayout(store_path)
    raise_format(store_path)
    with (
        writing(f"'{layout.catalog}'"),
        claim(layout.lock, f"'{layout.catalog}'", "try again", _PATIENCE),
        tempfile.TemporaryDirectory(prefix="energylens-") as folder,
    ):
        partial = fresh_partial(layout.catalog)
        made = Path(folder, layout.catalog.name)  # DuckDB cannot make files below a folder like "?"
        try:
            _fill_catalog(made, layout, macros)
            shutil.copyfile(made, partial)
            sync(partial)
            replace_listed(partial, layout.catalog)
        except duckdb.IOException as error:
            raise StoreError(f"cannot write '{layout.catalog}': {error}") from error
        finally:
            partial.unlink(missing_ok=True)


def _fill_catalog(path: Path, layout: StoreLayout, macros: list[str]) -> None:
    con = duckdb.connect(str(path))
    try:
        install(con, [*schema_statements(), *macros])
        con.execute("SET VARIABLE energylens_store = ?", [str(layout.root.resolve())])
        for macro in CATALOG_MACROS:
            con.execute(macro)
        listed = [(run, read_run(run.run_json)) for run in layout.runs()]
        fill_views(con, layout, listed, relative_to(layout.root))
    finally:
        con.close()


def _state(layout: RunLayout, info: RunInfo) -> RunState:
    n_complete = sum(int(shard.name) < info.n_shards for shard in layout.complete_shards())
    return RunState(info, n_complete, index_state(layout))
