"""The valid tokens of a run as arrays, and what EFAS needs of the gradients over all of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from energylens.db.provenance import RunInfo, SaeInfo
from energylens.ingest.index.on_disk import Rows
from energylens.stats.clusters import N_GROUPS
from energylens.stats.two_way import position_effects, window_effects

SCALAR_VARIANTS = ("position", "energy", "drop")
"""One series for all features: its direction is 1."""

_TOKENS = """
WITH chosen AS (
    SELECT e.token_index, e.energy FROM energies AS e
    WHERE e.run_id = $run_id AND e.layer = $layer
),
earlier AS (
    SELECT e.token_index, e.energy FROM energies AS e
    WHERE e.run_id = $run_id AND e.layer = $layer_before_drop
),
placed AS (
    SELECT
        t.token_index, t.context_id, t.pos, t.is_masked, t.log_frequency, t.energy,
        coalesce(c.energy, t.energy) AS read_energy,
        coalesce(r.energy - t.energy, 0) AS worth
    FROM tokens AS t
    LEFT JOIN chosen AS c ON c.token_index = t.token_index
    LEFT JOIN earlier AS r ON r.token_index = t.token_index
    WHERE t.run_id = $run_id AND t.energy IS NOT NULL
),
sloped AS (
    SELECT
        p.*,
        (lead(p.read_energy, 1, p.read_energy) OVER along
            - lag(p.read_energy, 1, p.read_energy) OVER along)
        / nullif(
            lead(p.pos, 1, p.pos) OVER along - lag(p.pos, 1, p.pos) OVER along, 0
        ) AS slope
    FROM placed AS p
    WINDOW along AS (PARTITION BY p.context_id ORDER BY p.pos)
)
SELECT
    s.token_index, s.context_id, s.pos, coalesce(s.log_frequency, 0) AS log_frequency, s.energy,
    s.read_energy, -coalesce(s.slope, 0) AS slope, s.worth
FROM sloped AS s
WHERE NOT s.is_masked
ORDER BY s.token_index
"""
_TEXTS = """
SELECT c.context_id, c.text_id, x.category
FROM contexts AS c
LEFT JOIN texts AS x ON x.run_id = $run_id AND x.text_id = c.text_id
WHERE c.run_id = $run_id
ORDER BY c.context_id
"""
_BATCH_ROWS = 122_880
_WINDOWS = 1024
_COVARIATES = 4
_ROWS = 1 << 20
"""Tokens worked on at once."""


@dataclass(frozen=True)
class Panel:
    """The N valid tokens of a run: not masked, with a next token. They come window by window, and
    windows text by text; numbers are held as they are stored, for N may be in the millions."""

    token_index: np.ndarray
    context_ids: np.ndarray
    """Of the J windows."""
    window: np.ndarray
    """Which of the J windows each token stands in."""
    position: np.ndarray
    text: np.ndarray
    """Which of the texts each window is of, from 0."""
    half: np.ndarray
    """text_id modulo 2, of the texts."""
    group: np.ndarray
    """Which of N_GROUPS groups each text is in: its text_id modulo N_GROUPS, empty groups left
    out."""
    categories: list[str]
    category: np.ndarray
    """Of the texts; -1 where one has none."""
    log_frequency: np.ndarray
    energy: np.ndarray
    """Of the output."""
    scalars: dict[str, np.ndarray]
    """The series of SCALAR_VARIANTS; without `drop` where no layer before the last is stored at or
    before the SAE's place."""

    @property
    def n_windows(self) -> int:
        return len(self.context_ids)

    @property
    def n_texts(self) -> int:
        return len(self.half)

    @cached_property
    def text_sizes(self) -> np.ndarray:
        """Tokens of each text."""
        tokens = np.bincount(self.window, minlength=self.n_windows)
        return np.bincount(self.text, tokens, self.n_texts)

    @cached_property
    def first_windows(self) -> np.ndarray:
        """The first window of each text."""
        return np.flatnonzero(np.diff(self.text, prepend=-1))

    def text_of(self, rows: np.ndarray | slice) -> np.ndarray:
        """The text of some tokens."""
        return self.text[self.window[rows]]

    def covariates(self, rows: np.ndarray | slice) -> np.ndarray:
        """[tokens, 4]: one, position, log frequency and output energy of some tokens."""
        own = (self.position[rows], self.log_frequency[rows], self.energy[rows])
        return np.stack([np.ones(len(own[0])), *own], axis=1).astype(np.float64, copy=False)

    def parts(self) -> Iterator[slice]:
        """Ranges of tokens, few enough to be worked on at once."""
        for first in range(0, len(self.window), _ROWS):
            yield slice(first, first + _ROWS)


@dataclass(frozen=True)
class Totals:
    """g of F features over all valid tokens, active or not, by category."""

    g: np.ndarray
    """[C + 1, F]; the last row is texts without a category."""
    gg: np.ndarray
    gx: np.ndarray
    """[F, 4]: g times the covariates."""


@dataclass(frozen=True)
class Effects:
    """What is taken off the gradients, and their sums."""

    window: Rows
    """Effects of the windows, [J, d]."""
    position: np.ndarray
    """Effects of the positions, [n_ctx, d]."""
    sums: Rows
    """dE/dh summed over the valid tokens of each window, [J, d]."""


def read_panel(con: duckdb.DuckDBPyConnection, run: RunInfo, sae: SaeInfo) -> Panel:
    """The valid tokens of a run, with energies read at the SAE's layer where they are stored. What
    later blocks are worth is told from there, or from the stored layer next before it."""
    before = run.layer_before_drop(sae)
    names = {"run_id": run.run_id, "layer": sae.lens_layer, "layer_before_drop": before}
    columns = _read_tokens(con, names)
    context_id = columns.pop("context_id")
    first = np.flatnonzero(np.diff(context_id, prepend=-1))
    window = np.repeat(
        np.arange(len(first), dtype=np.int32), np.diff(first, append=len(context_id))
    )
    context_ids = context_id[first]
    rows = con.sql(_TEXTS, params={"run_id": run.run_id}).to_arrow_table()
    place = np.searchsorted(rows["context_id"].to_numpy(), context_ids)
    text_ids, first_window, text = np.unique(
        rows["text_id"].to_numpy()[place], return_index=True, return_inverse=True
    )
    of_text = rows["category"].take(place[first_window]).to_pylist()
    categories = sorted({c for c in of_text if c is not None})
    number = {c: i for i, c in enumerate(categories)}
    worth = {} if before is None else {"drop": columns["worth"]}
    return Panel(
        token_index=columns["token_index"],
        context_ids=context_ids,
        window=window,
        position=columns["pos"],
        text=text,
        half=text_ids % 2,
        group=np.unique(text_ids % N_GROUPS, return_inverse=True)[1],
        categories=categories,
        category=np.array([-1 if c is None else number[c] for c in of_text], dtype=np.int64),
        log_frequency=columns["log_frequency"],
        energy=columns["energy"],
        scalars={"position": columns["slope"], "energy": columns["read_energy"]} | worth,
    )


def _read_tokens(con: duckdb.DuckDBPyConnection, names: dict[str, object]) -> dict[str, np.ndarray]:
    reader = con.sql(_TOKENS, params=names).to_arrow_reader(_BATCH_ROWS)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in reader.schema.names}
    for batch in reader:
        for name, found in parts.items():
            found.append(batch[name].to_numpy())
    return {
        name: np.concatenate([_without_rows(kind.type), *parts.pop(name)])
        for name, kind in zip(reader.schema.names, reader.schema, strict=True)
    }


def _without_rows(kind: pa.DataType) -> np.ndarray:
    return pa.array([], kind).to_numpy(zero_copy_only=False)


def scalar_gradients(
    panel: Panel, variant: str, d_sae: int, n_ctx: int, folder: Path
) -> tuple[Totals, Effects]:
    """Totals and effects of a series that is the same for all features; `folder` is for what is
    kept on disk meanwhile."""
    n_categories = len(panel.categories) + 1
    g, gg = np.zeros(n_categories), np.zeros(n_categories)
    gx = np.zeros(_COVARIATES)
    windows, positions = np.zeros(panel.n_windows), np.zeros(n_ctx)
    for part in panel.parts():
        own = panel.scalars[variant][part].astype(np.float64)
        of_token = panel.category[panel.text_of(part)] % n_categories  # -1 becomes the last
        g += np.bincount(of_token, own, n_categories)
        gg += np.bincount(of_token, own * own, n_categories)
        gx += own @ panel.covariates(part)
        windows -= np.bincount(panel.window[part], own, panel.n_windows)
        positions -= np.bincount(panel.position[part], own, n_ctx)
    totals = Totals(
        g=np.repeat(g[:, None], d_sae, axis=1),
        gg=np.repeat(gg[:, None], d_sae, axis=1),
        gx=np.repeat(gx[None], d_sae, axis=0),
    )
    return totals, effects_of(panel, [windows[:, None]], positions[:, None], folder)


def model_gradients(
    con: duckdb.DuckDBPyConnection,
    panel: Panel,
    names: dict[str, object],
    d_sae: int,
    n_ctx: int,
    folder: Path,
) -> tuple[Totals, Effects] | None:
    """Totals and effects of one SAE's gradients, from what the shards hold of them; None where
    they hold none, as for an SAE inside an attention layer. `folder` is for what is kept on disk
    meanwhile."""
    held = con.execute(
        "SELECT count(*) FROM gradient_contexts WHERE run_id = $run_id AND sae_id = $sae_id "
        "AND variant = $variant",
        names,
    ).fetchall()
    if held == [(0,)]:
        return None
    return _totals(con, panel, names, d_sae), _effects(con, panel, names, n_ctx, folder)


def _totals(
    con: duckdb.DuckDBPyConnection, panel: Panel, names: dict[str, object], d_sae: int
) -> Totals:
    found = con.sql(
        "SELECT category, feature_id, sum(sum_g) AS g, sum(sum_gg) AS gg, sum(sum_pos_g) AS pos, "
        "sum(sum_frequency_g) AS frequency, sum(sum_energy_g) AS energy FROM gradient_sums "
        "WHERE run_id = $run_id AND sae_id = $sae_id AND variant = $variant "
        "GROUP BY category, feature_id ORDER BY category, feature_id",
        params=names,
    ).to_arrow_table()
    number = {c: i for i, c in enumerate(panel.categories)}
    row = np.array([number.get(c, len(number)) for c in found["category"].to_pylist()], dtype=int)
    feature = found["feature_id"].to_numpy()

    def summed(name: str) -> np.ndarray:
        out = np.zeros((len(number) + 1, d_sae))
        np.add.at(out, (row, feature), found[name].to_numpy())
        return out

    g = summed("g")
    by_covariate = [g, summed("pos"), summed("frequency"), summed("energy")]
    return Totals(g, summed("gg"), np.stack([x.sum(axis=0) for x in by_covariate], axis=1))


def _effects(
    con: duckdb.DuckDBPyConnection,
    panel: Panel,
    names: dict[str, object],
    n_ctx: int,
    folder: Path,
) -> Effects:
    where = "WHERE run_id = $run_id AND sae_id = $sae_id AND variant = $variant"
    found = con.sql(
        f"SELECT pos, sum_gradient FROM gradient_positions {where}",  # noqa: S608
        params=names,
    ).to_arrow_table()
    sums = _matrix(found["sum_gradient"].combine_chunks())
    positions = np.zeros((n_ctx, sums.shape[1]))
    np.add.at(positions, found["pos"].to_numpy(), sums)
    windows = con.sql(
        f"SELECT sum_gradient FROM gradient_contexts {where} AND n_tokens > 0 "  # noqa: S608
        "ORDER BY context_id",
        params=names,
    ).to_arrow_reader(_WINDOWS)
    return effects_of(
        panel, (_matrix(batch["sum_gradient"]) for batch in windows), positions, folder
    )


def effects_of(
    panel: Panel, windows: Iterable[np.ndarray], positions: np.ndarray, folder: Path
) -> Effects:
    """Effects from sums of gradients by window, [J, d] in blocks, and by position, [n_ctx, d]."""
    width = positions.shape[1]
    sums = Rows(windows, width, folder)
    by_position = position_effects(panel.window, panel.position, sums.blocks, positions)
    found = window_effects(panel.window, panel.position, sums.blocks, by_position)
    return Effects(Rows(found, width, folder), by_position, sums)


def _matrix(values: pa.Array) -> np.ndarray:
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
