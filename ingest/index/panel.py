"""The valid tokens of a run as arrays, and what EFAS needs of the gradients over all of them."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from energylens.db.provenance import SaeInfo
from energylens.stats.clusters import N_GROUPS
from energylens.stats.two_way import TwoWay, two_way

SCALAR_VARIANTS = ("position", "energy")
"""One series for all features: its direction is 1."""

_TOKENS = """
WITH chosen AS (
    SELECT e.token_index, e.energy FROM energies AS e
    WHERE e.run_id = $run_id AND e.layer = $layer
),
placed AS (
    SELECT
        t.token_index, t.context_id, t.pos, t.is_masked, t.log_frequency, t.energy,
        coalesce(c.energy, t.energy) AS read_energy
    FROM tokens AS t
    LEFT JOIN chosen AS c ON c.token_index = t.token_index
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
    s.token_index, s.context_id, c.text_id, s.pos, s.log_frequency, s.energy, s.read_energy,
    -coalesce(s.slope, 0) AS position_g, x.category
FROM sloped AS s
JOIN contexts AS c ON c.run_id = $run_id AND c.context_id = s.context_id
LEFT JOIN texts AS x ON x.run_id = $run_id AND x.text_id = c.text_id
WHERE NOT s.is_masked
ORDER BY s.token_index
"""


@dataclass(frozen=True)
class Panel:
    """The N valid tokens of a run: not masked, with a next token."""

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
    covariates: np.ndarray
    """[N, 4]: one, position, log frequency, output energy."""
    scalars: dict[str, np.ndarray]
    """The series of SCALAR_VARIANTS."""

    @property
    def n_windows(self) -> int:
        return len(self.context_ids)

    @property
    def n_texts(self) -> int:
        return len(self.half)

    @property
    def token_text(self) -> np.ndarray:
        """The text of each token."""
        return self.text[self.window]


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

    both: TwoWay
    """Of windows and positions."""
    text_sums: np.ndarray
    """[texts, d]: dE/dh summed over the valid tokens of each text."""


def read_panel(con: duckdb.DuckDBPyConnection, run_id: str, sae: SaeInfo) -> Panel:
    """The valid tokens of a run, with energies read at the SAE's layer where they are stored."""
    layer = sae.layer - 1 if sae.hook_name.endswith("resid_pre") else sae.layer
    rows = con.sql(_TOKENS, params={"run_id": run_id, "layer": layer}).to_arrow_table()
    columns = {name: rows[name].to_numpy() for name in rows.column_names if name != "category"}
    context_ids, first, window = np.unique(
        columns["context_id"], return_index=True, return_inverse=True
    )
    text_ids, first_window, text = np.unique(
        columns["text_id"][first], return_index=True, return_inverse=True
    )
    of_text = rows["category"].take(first[first_window]).to_pylist()
    categories = sorted({c for c in of_text if c is not None})
    number = {c: i for i, c in enumerate(categories)}
    frequency = np.nan_to_num(columns["log_frequency"].astype(np.float64))
    ones = np.ones(len(window))
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
        covariates=np.stack([ones, columns["pos"], frequency, columns["energy"]], axis=1),
        scalars={
            "position": columns["position_g"].astype(np.float64),
            "energy": columns["read_energy"].astype(np.float64),
        },
    )


def scalar_gradients(panel: Panel, variant: str, d_sae: int, n_ctx: int) -> tuple[Totals, Effects]:
    """Totals and effects of a series that is the same for all features."""
    g = panel.scalars[variant]
    n_categories = len(panel.categories) + 1
    of_token = panel.category[panel.token_text] % n_categories  # -1 becomes the last
    totals = Totals(
        g=np.repeat(np.bincount(of_token, g, n_categories)[:, None], d_sae, axis=1),
        gg=np.repeat(np.bincount(of_token, g * g, n_categories)[:, None], d_sae, axis=1),
        gx=np.repeat((g @ panel.covariates)[None], d_sae, axis=0),
    )
    windows = np.bincount(panel.window, -g, panel.n_windows)[:, None]
    positions = np.bincount(panel.position, -g, n_ctx)[:, None]
    return totals, effects_of(panel, windows, positions)


def model_gradients(
    con: duckdb.DuckDBPyConnection, panel: Panel, names: dict[str, object], d_sae: int, n_ctx: int
) -> tuple[Totals, Effects] | None:
    """Totals and effects of one SAE's gradients, from what the shards hold of them; None where
    they hold none, as for an SAE inside an attention layer."""
    held = con.execute(
        "SELECT count(*) FROM gradient_contexts WHERE run_id = $run_id AND sae_id = $sae_id "
        "AND variant = $variant",
        names,
    ).fetchall()
    if held == [(0,)]:
        return None
    return _totals(con, panel, names, d_sae), _effects(con, panel, names, n_ctx)


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
    con: duckdb.DuckDBPyConnection, panel: Panel, names: dict[str, object], n_ctx: int
) -> Effects:
    where = "WHERE run_id = $run_id AND sae_id = $sae_id AND variant = $variant"
    rows = con.sql(
        f"SELECT context_id, sum_gradient FROM gradient_contexts {where} AND n_tokens > 0 "  # noqa: S608
        "ORDER BY context_id",
        params=names,
    ).to_arrow_table()
    windows = _matrix(rows, "sum_gradient")
    found = con.sql(
        f"SELECT pos, sum_gradient FROM gradient_positions {where}",  # noqa: S608
        params=names,
    ).to_arrow_table()
    positions = np.zeros((n_ctx, windows.shape[1]))
    np.add.at(positions, found["pos"].to_numpy(), _matrix(found, "sum_gradient"))
    return effects_of(panel, windows, positions)


def effects_of(panel: Panel, windows: np.ndarray, positions: np.ndarray) -> Effects:
    """Effects from sums of gradients by window, [J, d], and by position, [n_ctx, d]."""
    text_sums = np.zeros((panel.n_texts, windows.shape[1]))
    np.add.at(text_sums, panel.text, windows)
    return Effects(two_way(panel.window, panel.position, windows, positions), text_sums)


def _matrix(rows: pa.Table, column: str) -> np.ndarray:
    values = rows[column].combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(values), -1)
