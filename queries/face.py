"""A store as it is met in Python: opened by `energylens.open`, looked at, asked.

Everything here is a short way to what `energylens.queries` has; the typed functions there take what
`open` returns.
"""

import os
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from energylens.db.limits import SECONDS
from energylens.db.provenance import RunInfo
from energylens.db.store import confine
from energylens.errors import StoreError, UsageError
from energylens.queries.adhoc import ask
from energylens.queries.card import FeatureCard, feature_card
from energylens.queries.catalog import call, open_catalog
from energylens.queries.display import counted, number, visible
from energylens.queries.features import feature
from energylens.queries.names import find_run
from energylens.queries.overview import RunSummary, run_summaries

if TYPE_CHECKING:
    import duckdb

_RUNS = "run_id, kind, model, texts, n_texts, n_contexts, n_tokens, n_shards, base_run, created"
_SAES = "run_id, sae_id, hook_name, layer, architecture, d_sae, l0, fvu, n_dead, n_dense, gate"


class OpenStore:
    """A store that is open for reading; shown as text, and as HTML in a notebook.

    It never locks the store: others read and write on. It is closed by `close`, by a `with` block,
    or with the program. It is confined: SQL reads this store and no other file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = open_catalog(path)
        self._is_open = True
        confine(self._store)

    @property
    def runs(self) -> pl.DataFrame:
        """A row for each run: its name, what it was made with, how much there is."""
        return self.sql(f"SELECT {_RUNS} FROM runs ORDER BY created, run_id")  # noqa: S608

    @property
    def saes(self) -> pl.DataFrame:
        """A row for each SAE of each run, with the gate's figures."""
        return self.sql(f"SELECT {_SAES} FROM saes ORDER BY run_id, layer, sae_id")  # noqa: S608

    def sql(self, query: str, seconds: float | None = SECONDS) -> pl.DataFrame:
        """All rows of one SQL statement that reads; `energylens queries STORE` lists the tables.

        It may take so many `seconds`; None lets it run for ever.

        Raises:
            QueryError: it is no single reading statement, DuckDB refuses it, or it took too much.
            UnknownNameError: it calls a named query with a name that stands for nothing.
        """
        limits = replace(self._store.limits, seconds=seconds)
        return ask(self, query, limit=None, limits=limits).rows

    def query(self, name: str, /, **values: object) -> pl.DataFrame:
        """The rows of a named query; `energylens queries` lists them with their parameters.

        `run` and `sae` may be left out where there is one, and may be the beginning of a name.

        Raises:
            UnknownNameError: no query, run, SAE, feature, text or category is so called.
            QueryError: the query has no such parameter, or a value is none it can take.
        """
        return call(self, name, **values)

    def feature(
        self, feature_id: int, sae: str | None = None, run: str | None = None, k: int = 5
    ) -> FeatureCard:
        """One feature: its facts, and the `k` contexts in which it is strongest, shaded.

        Raises:
            UnknownNameError: there is no such run, SAE or feature, or several could be meant.
            QueryError: the run has no index of its SAEs yet.
        """
        if k < 0:
            raise UsageError(f"k says how many contexts are shown; it cannot be {k}")
        return feature_card(self, feature(self, run, sae, feature_id), k)

    def search(
        self, words: str, sae: str | None = None, run: str | None = None, k: int = 20
    ) -> pl.DataFrame:
        """The features that some words lead to, the best first: by what they are said to stand for,
        the tokens and contexts they are strongest at, and the tokens they promote.

        Raises:
            UnknownNameError: there is no such run or SAE, or several runs could be meant.
        """
        return call(self, "search_features", run=run, words=words, in_sae=sae, k=k)

    def info(self, run: str | None = None) -> RunInfo:
        """All that is recorded of a run: what made it, and its SAEs.

        Raises:
            UnknownNameError: there is no such run, or several could be meant.
        """
        return find_run(self.infos, run)

    def refresh(self) -> None:
        """Take in what has become complete since the store was opened."""
        self._check_open()
        self._store.refresh()

    def cursor(self) -> "duckdb.DuckDBPyConnection":
        """A cursor of DuckDB for the calling thread.

        Raises:
            StoreError: the store has been closed.
        """
        self._check_open()
        return self._store.cursor()

    @property
    def infos(self) -> list[RunInfo]:
        """The runs that names are looked up in."""
        return self._store.infos

    def close(self) -> None:
        """Close it; what was read from it stays."""
        if self._is_open:
            self._is_open = False
            self._store.close()

    def __enter__(self) -> "OpenStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return _as_text(self._title(), self._summaries())

    def _repr_html_(self) -> str:
        return _as_html(self._title(), self._summaries())

    def _summaries(self) -> list[RunSummary]:
        return run_summaries(self._store) if self._is_open else []

    def _title(self) -> str:
        state = counted(len(self.infos), "run") if self._is_open else "closed"
        return f"{visible(str(self.path))}: {state}"

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError(f"'{self.path}' has been closed; energylens.open opens it again")


_COLUMNS = ("SAE", "hook", "features", "L0", "FVU", "gate")


def _sae_rows(run: RunInfo) -> list[tuple[str, ...]]:
    return [
        (
            visible(sae.sae_id),
            visible(sae.hook_name),
            f"{sae.d_sae:,}",
            number(sae.l0),
            number(sae.fvu),
            visible(sae.gate),
        )
        for sae in run.saes
    ]


def _run_line(run: RunSummary) -> str:
    """What one run is and how far it is, on a line."""
    parts = [
        visible(run.info.run_id),
        visible(run.info.model),
        counted(run.n_texts, "text"),
        counted(run.n_tokens, "token"),
        counted(run.n_codes, "code"),
        f"index {run.index}",
    ]
    if not run.is_complete:
        parts.append(f"{run.n_shards_complete:,} of {run.info.n_shards:,} shards")
    return " · ".join(parts)


def _as_text(title: str, runs: list[RunSummary]) -> str:
    lines = [title]
    for run in runs:
        lines.append(f"  {_run_line(run)}")
        rows = [_COLUMNS, *_sae_rows(run.info)] if run.info.saes else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"    {'  '.join(cells).rstrip()}")
    return "\n".join(lines)


def _as_html(title: str, runs: list[RunSummary]) -> str:
    parts = [f"<strong>{escape(title)}</strong>"]
    for run in runs:
        parts.append(f"<p style='margin: 0.6em 0 0'>{escape(_run_line(run))}</p>")
        if run.info.saes:
            rows = [_html_row("th", _COLUMNS), *(_html_row("td", r) for r in _sae_rows(run.info))]
            parts.append(f"<table>{''.join(rows)}</table>")
    return f"<div>{''.join(parts)}</div>"


def _html_row(tag: str, cells: tuple[str, ...]) -> str:
    inside = "".join(f"<{tag} style='text-align: left'>{escape(c)}</{tag}>" for c in cells)
    return f"<tr>{inside}</tr>"


def open(path: str | os.PathLike[str]) -> OpenStore:  # noqa: A001  # as in energylens.open
    """Open a store that `energylens ingest` made, to read it.

    Nothing on disk is locked or changed. The store is closed by `with`, by `close()` or when the
    program ends:

        store = energylens.open("demo.lens")
        store                                  # its runs and SAEs
        store.sql("SELECT category, count(*) AS n FROM texts GROUP BY category")
        store.query("best_features", sae="blocks.1", k=5)
        store.feature(206, sae="blocks.1")     # facts, and contexts with every token shaded

    docs/python.md tells the rest.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    return OpenStore(Path(path))
