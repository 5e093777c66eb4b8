"""EFAS on request, for a run that is there already: another gradient, or tests that need g at every
token. The run's texts go through its model once more; nothing of the run is changed but its index.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from energylens.choices import one_of
from energylens.db.index_files import IndexWriter, extend_index, index_file, index_state
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.sources import pattern_of
from energylens.db.store import Store, open_store
from energylens.errors import UsageError
from energylens.ingest.index.efas import Gradients, efas_rows
from energylens.ingest.index.panel import Effects, Panel, Totals, effects_of, read_panel
from energylens.ingest.measure import measure
from energylens.ingest.on_request.reopen import reopen_texts
from energylens.ingest.plan import Loaded
from energylens.ingest.progress import Progress
from energylens.ingest.run import blocks
from energylens.lens.gradients import VARIANTS, Variant
from energylens.lens.saes import writes_to_stream
from energylens.queries.catalog import write_catalog
from energylens.queries.matrices import rows_of
from energylens.queries.names import find_sae
from energylens.stats.resampling import permute_texts, shift_windows, spearman

_ROWS = 1 << 16
"""Tokens gone through at once."""
_MOST_NUMBERS = 1 << 28
"""Numbers of z and of g that a test may hold: 2 GB each."""


@dataclass(frozen=True)
class Dense:
    """dE/dh at every valid token of a run, in a file of its own."""

    a: np.ndarray
    """[N, d_model], float32; units of the SAE's output."""
    directions: np.ndarray
    """[d_sae, d_model]."""

    def at(self, row: np.ndarray, feature: np.ndarray) -> np.ndarray:
        """g = -dE/dz at some codes."""
        found = np.empty(len(row))
        for i in range(0, len(row), _ROWS):
            part = slice(i, i + _ROWS)
            found[part] = -np.einsum("ed,ed->e", self.a[row[part]], self.directions[feature[part]])
        return found

    def of(self, features: list[int]) -> np.ndarray:
        """[N, k]: g of some features at every token."""
        return -np.asarray(self.a, dtype=np.float64) @ self.directions[features].T


def add_variant(store: Path, run_id: str, sae_id: str, variant: str, progress: Progress) -> None:
    """Compute EFAS of one more gradient and put its rows into the run's index.

    Raises:
        UsageError: the variant is unknown, or model, texts or SAE are not the run's.
        StoreError: the store has no such run, or its index is not fresh.
    """
    with open_store(store) as opened:
        run, sae = _find(opened, run_id, sae_id)
        panel = read_panel(opened.cursor(), run, sae)
        layout = StoreLayout(store).run(run_id)
        if index_state(layout) != "fresh":
            raise UsageError(f"the index of '{run_id}' is not fresh; run: energylens index {store}")
        with gradients(
            store, run, sae, one_of("--variant knows", variant, VARIANTS), panel, progress
        ) as dense:
            con = opened.cursor()
            path = index_file(layout, "feature_codes", sae_id)
            assert path is not None, "a fresh index has it of every SAE"
            con.read_parquet(pattern_of(path), hive_partitioning=False).create_view(
                "sorted_codes", replace=True
            )
            source = Gradients(*_sums(panel, dense, run.n_ctx), dense.directions, dense.at)
            whole, by_category = efas_rows(con, run, sae, panel, {variant: source})
            with extend_index(layout, ("efas", "efas_categories"), sae_id) as writer:
                for table, rows in (("efas", whole), ("efas_categories", by_category)):
                    _extend(writer, layout, table, sae_id, variant, rows)
    write_catalog(store)


def resample_features(
    store: Path,
    run_id: str,
    sae_id: str,
    features: list[int],
    tests: tuple[str, ...],
    variant: str,
    n_draws: int,
    progress: Progress,
) -> pl.DataFrame:
    """Spearman's correlation, permutation of texts and rotation within windows (with window and
    position means off), for a few features: `tests` names some of spearman, text, shift.

    Raises:
        UsageError: a name is unknown, or model, texts or SAE are not the run's, or there are more
            features than fit in memory.
    """
    unknown = set(tests) - {"spearman", "text", "shift"}
    if unknown:
        raise UsageError(f"--test knows spearman, text and shift, not '{sorted(unknown)[0]}'")
    with open_store(store) as opened:
        run, sae = _find(opened, run_id, sae_id)
        wrong = [f for f in features if not 0 <= f < sae.d_sae]
        if wrong:
            raise UsageError(f"'{sae_id}' has features 0 to {sae.d_sae - 1}, not {wrong[0]}")
        panel = read_panel(opened.cursor(), run, sae)
        n = len(panel.token_index)
        if n * len(features) > _MOST_NUMBERS:
            most = _MOST_NUMBERS // n
            raise UsageError(f"over {n:,} tokens at most {most} features fit; name fewer")
        z = _activations(opened, run, sae, panel, features)
        with gradients(
            store, run, sae, one_of("--variant knows", variant, VARIANTS), panel, progress
        ) as dense:
            g = dense.of(features)
            means = None
            if "shift" in tests:
                means = _means(panel, _sums(panel, dense, run.n_ctx)[1], dense.directions[features])
    columns: dict[str, object] = {"feature_id": features}
    text = panel.text_of(slice(None))
    if "spearman" in tests:
        columns["spearman"] = spearman(z, g)
    if "text" in tests:
        place = (panel.window - panel.first_windows[text]) * run.n_ctx + panel.position
        found = permute_texts(z, g, text, place, n_draws)
        columns |= {"p_text": found.p, "n_texts_moved": [found.n_texts] * len(features)}
    if means is not None:
        columns["p_shift"] = shift_windows(z, g + means, panel.window, text, n_draws).p
    return pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None))


@contextmanager
def gradients(
    store: Path, run: RunInfo, sae: SaeInfo, variant: Variant, panel: Panel, progress: Progress
) -> Iterator[Dense]:
    """Gradients at every valid token, by running the model over the run's texts again."""
    loaded = _load(store, run, sae, variant)
    (own,) = loaded.instruments.saes
    d = own.write_directions.shape[1]
    folder = Path(tempfile.mkdtemp(prefix="energylens-"))
    try:
        a = np.memmap(folder / "gradients", np.float32, "w+", shape=(len(panel.token_index), d))
        done = 0
        contexts = (
            context
            for text in loaded.corpus.texts(lambda _: True)
            for context in loaded.corpus.contexts(text, loaded.plan.first_of(text))
        )
        for block in blocks(contexts):
            measured = measure(loaded.instruments, block.contexts)
            gradient = measured.gradients[variant, own.target_hook]
            scale = measured.write_scales.get(own.sae_id)
            places = [c.context_id * run.n_ctx + np.arange(len(c.ids)) for c in block.contexts]
            index = np.concatenate(places)
            row, kept = rows_of(panel.token_index, index)
            a[row] = (gradient if scale is None else gradient * scale[:, None])[kept]
            done += block.n_tokens
            progress.step(f"{variant} gradients", done, loaded.plan.n_tokens, "tokens")
        yield Dense(a, own.write_directions.double().numpy())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(store: Path, run: RunInfo, sae: SaeInfo, variant: Variant) -> Loaded:
    loaded = reopen_texts(store, run, [sae], efas=(variant,))
    (own,) = loaded.instruments.saes
    if not writes_to_stream(own.target_hook):
        raise UsageError(
            f"'{sae.sae_id}' does not write to the residual stream, so it has no gradient"
        )
    instruments = replace(loaded.instruments, hooks=(own.hook_name,), median_norms=(1.0,))
    return replace(loaded, instruments=instruments)


def _sums(panel: Panel, dense: Dense, n_ctx: int) -> tuple[Totals, Effects]:
    n_categories, d = len(panel.categories) + 1, dense.a.shape[1]
    of_token = panel.category[panel.text_of(slice(None))] % n_categories
    windows = np.zeros((panel.n_windows, d))
    positions = np.zeros((n_ctx, d))
    by_category, squares = np.zeros((n_categories, d)), np.zeros((n_categories, d, d))
    with_x = np.zeros((panel.covariates(slice(0, 0)).shape[1], d))
    for first in range(0, len(dense.a), _ROWS):
        part = slice(first, first + _ROWS)
        a = np.asarray(dense.a[part], dtype=np.float64)
        np.add.at(windows, panel.window[part], a)
        np.add.at(positions, panel.position[part], a)
        with_x += panel.covariates(part).T @ a
        for number in np.unique(of_token[part]):
            own = a[of_token[part] == number]
            by_category[number] += own.sum(axis=0)
            squares[number] += own.T @ own
    directions = dense.directions
    totals = Totals(
        g=-by_category @ directions.T,
        gg=np.stack([np.einsum("fd,fd->f", directions @ s, directions) for s in squares]),
        gx=-directions @ with_x.T,
    )
    return totals, effects_of(panel, [windows], positions, Path(tempfile.gettempdir()))


def _means(panel: Panel, effects: Effects, directions: np.ndarray) -> np.ndarray:
    """[N, k]: means of windows and positions of some directions, to be added to g."""
    by_window = effects.window.times(directions).T[panel.window]
    return by_window + (effects.position @ directions.T)[panel.position]


def _activations(
    store: Store, run: RunInfo, sae: SaeInfo, panel: Panel, features: list[int]
) -> np.ndarray:
    found = store.cursor().execute(
        "SELECT feature_id, token_index, activation FROM feature_codes WHERE run_id = $run "
        "AND sae_id = $sae AND feature_id IN (SELECT unnest($features::INTEGER[]))",
        {"run": run.run_id, "sae": sae.sae_id, "features": features},
    )
    rows = found.fetchnumpy()
    z = np.zeros((len(panel.token_index), len(features)))
    row, kept = rows_of(panel.token_index, np.asarray(rows["token_index"]))
    column = {f: i for i, f in enumerate(features)}
    place = np.array([column[int(f)] for f in np.asarray(rows["feature_id"])], dtype=np.int64)
    z[row, place[kept]] = np.asarray(rows["activation"])[kept]
    return z


def _extend(
    writer: IndexWriter,
    layout: RunLayout,
    table: str,
    sae_id: str,
    variant: str,
    rows: pl.DataFrame,
) -> None:
    path = index_file(layout, table, sae_id)
    with writer.table(table, sae_id) as out:
        old = rows.clear() if path is None else pl.from_arrow(pq.ParquetFile(path).read())
        assert isinstance(old, pl.DataFrame), "a table of columns is a frame"
        kept = old.filter(pl.col("variant") != variant)
        whole = pl.concat([kept, rows.select(kept.columns)], how="vertical_relaxed")
        key = [c for c in ("variant", "category", "feature_id") if c in whole.columns]
        out.write(whole.sort(key).to_arrow())


def _find(store: Store, run_id: str, sae_id: str) -> tuple[RunInfo, SaeInfo]:
    run = store.run(run_id).info
    return run, find_sae(run, sae_id)
