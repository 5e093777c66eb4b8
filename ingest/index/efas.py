"""EFAS of every feature of an SAE from codes in feature order: one pass, a range at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from energylens.db.analyses import EFAS, EFAS_CATEGORIES
from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.table import constants
from energylens.ingest.index.panel import (
    SCALAR_VARIANTS,
    Effects,
    Panel,
    Totals,
    model_gradients,
    read_panel,
    scalar_gradients,
)
from energylens.ingest.index.ranges import feature_ranges
from energylens.queries.matrices import rows_of
from energylens.stats.efas import (
    Alignment,
    ClusterT,
    Scores,
    SignFlips,
    Sums,
    adjust_for,
    align,
    cluster_t,
    t_of_sums,
    text_scores,
)
from energylens.stats.multiple_tests import benjamini_hochberg

N_FLIPS = 10_000
"""Random sign flips behind p_flip and p_familywise."""
_NUMBERS = 1 << 23
"""Numbers in the widest array of a range: features times windows or positions."""
_MOST_FEATURES = 4096
_RANGE_CODES = 2_000_000
"""Codes of a range: with what is worked out of them, a few hundred bytes each."""
_COLUMNS = (
    "n_active", "n_texts", "efas", "t_efas", "p_efas", "q_efas", "gate", "dose", "smd",
    "attribution", "within", "within_low", "within_high", "within_groups", "t", "p", "q", "p_flip",
    "p_familywise", "adjusted", "t_adjusted", "p_adjusted", "t_even", "p_even", "t_odd", "p_odd",
)  # fmt: skip
_CODES = """
SELECT c.feature_id, c.token_index, c.activation{columns}
FROM sorted_codes AS c
WHERE c.feature_id >= $first AND c.feature_id < $end
ORDER BY c.feature_id, c.token_index
"""


@dataclass(frozen=True)
class Gradients:
    """One variant of an SAE's gradients."""

    totals: Totals
    effects: Effects
    directions: np.ndarray
    """[d_sae, d]: d is 1 for a series that is the same for all features."""
    at: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """g at codes, from their rows in the panel and features; None where the codes hold it."""


def write_efas(
    con: duckdb.DuckDBPyConnection,
    writer: IndexWriter,
    run: RunInfo,
    sae: SaeInfo,
    directions: np.ndarray | None,
    folder: Path,
    n_flips: int = N_FLIPS,
) -> None:
    """Write `efas` and `efas_categories` of one SAE; `directions` are [d_sae, d_model], what one
    unit of each activation writes, or None where the weights are not here: then gradients of the
    model are left out. Codes are read from the view `sorted_codes`; `folder` is for what does not
    fit in memory."""
    panel = read_panel(con, run, sae)
    if not panel.n_windows:
        return
    gradients: dict[str, Gradients] = {}
    if directions is not None and directions.shape[1] == run.d_model:
        for variant in run.efas:
            names: dict[str, object] = {
                "run_id": run.run_id,
                "sae_id": sae.sae_id,
                "variant": variant,
            }
            found = model_gradients(con, panel, names, sae.d_sae, run.n_ctx, folder)
            if found is not None:
                gradients[variant] = Gradients(*found, directions)
    for variant in panel.scalars:
        totals, effects = scalar_gradients(panel, variant, sae.d_sae, run.n_ctx, folder)
        gradients[variant] = Gradients(totals, effects, np.ones((sae.d_sae, 1)))
    whole, by_category = efas_rows(con, run, sae, panel, gradients, n_flips)
    for name, rows in (("efas", whole), ("efas_categories", by_category)):
        with writer.table(name, sae.sae_id) as out:
            out.write(rows.to_arrow())


def efas_rows(
    con: duckdb.DuckDBPyConnection,
    run: RunInfo,
    sae: SaeInfo,
    panel: Panel,
    gradients: dict[str, Gradients],
    n_flips: int = N_FLIPS,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `efas` and of `efas_categories` of some variants, in the order of the keys."""
    studies = [Study(name, panel, gradients[name], n_flips) for name in sorted(gradients)]
    held = [name for name, own in gradients.items() if own.at is None]
    held = [name for name in held if name not in SCALAR_VARIANTS]
    for codes in _ranges(con, panel, held, sae.d_sae, run.n_ctx):
        for study in studies:
            study.take(codes)
    whole = [_named(run, sae, study.variant, study.rows()) for study in studies]
    parts = [
        _named(run, sae, study.variant, rows) for study in studies for rows in study.category_rows()
    ]
    return (
        _as_table(pa.concat_tables(whole), EFAS.arrow),
        _as_table(pa.concat_tables(parts) if parts else None, EFAS_CATEGORIES.arrow),
    )


def _as_table(rows: pa.Table | None, schema: pa.Schema) -> pl.DataFrame:
    table = schema.empty_table() if rows is None else rows.select(schema.names).cast(schema)
    return pl.DataFrame(table)


@dataclass(frozen=True)
class Codes:
    """The valid codes of features first to end, in the order (feature, token)."""

    first: int
    end: int
    feature: np.ndarray
    """From 0."""
    row: np.ndarray
    """Row of the token in the panel."""
    z: np.ndarray
    g: dict[str, np.ndarray]


def _ranges(
    con: duckdb.DuckDBPyConnection, panel: Panel, variants: list[str], d_sae: int, n_ctx: int
) -> Iterator[Codes]:
    """`variants` are gradients that the codes hold."""
    columns = "".join(f", c.g_{name}" for name in variants)
    width = max(panel.n_windows, n_ctx)
    most = max(1, min(_MOST_FEATURES, _NUMBERS // width))
    for first, end in feature_ranges(con, d_sae, _RANGE_CODES, most):
        query = _CODES.format(columns=columns)
        found = con.sql(query, params={"first": first, "end": end}).to_arrow_table()
        row, inside = rows_of(panel.token_index, found["token_index"].to_numpy())
        g = {name: found[f"g_{name}"].to_numpy()[inside] for name in variants}
        g |= {name: series[row] for name, series in panel.scalars.items()}
        yield Codes(
            first,
            end,
            found["feature_id"].to_numpy()[inside].astype(np.int64) - first,
            row,
            found["activation"].to_numpy()[inside].astype(np.float64),
            g,
        )


@dataclass
class Study:
    """One variant: takes ranges of features, then gives the rows of all."""

    variant: str
    panel: Panel
    gradients: Gradients
    n_flips: int
    flips: SignFlips = field(init=False)
    found: list[dict[str, np.ndarray]] = field(default_factory=list)
    by_category: list[dict[str, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flips = SignFlips(self.panel.n_texts, self.n_flips)
        x = (self.panel.covariates(part) for part in self.panel.parts())
        self._xx = np.sum([own.T @ own for own in x], axis=0)

    def take(self, codes: Codes) -> None:
        """Add the features of one range."""
        part = slice(codes.first, codes.end)
        z, g, feature = codes.z, self._g(codes), codes.feature
        text = self.panel.text_of(codes.row)
        size = codes.end - codes.first
        sums = self._sums(feature, z, g, size, len(self.panel.token_index), part)
        found = align(sums)
        scores = text_scores(feature, text, z, self._centred(codes, g, part))
        whole = cluster_t(scores, sums.n_active, self.panel.n_texts)
        t_efas, p_efas = self._of_efas(codes, z, g, sums, whole, part)
        columns = {
            "n_active": sums.n_active,
            "n_texts": whole.n_texts,
            **{
                name: getattr(found, name)
                for name in ("efas", "gate", "dose", "smd", "attribution")
            },
            "t_efas": t_efas,
            "p_efas": p_efas,
            **_in_units(whole, self._by_group(scores, size), found, sums.n_tokens),
            "t": whole.t,
            "p": whole.p,
            "p_flip": self.flips.p(scores, whole.t),
            **self._adjusted(codes, sums, z, g, part),
        }
        for half, name in enumerate(("even", "odd")):
            chosen = self.panel.half[scores.text] == half
            n = np.bincount(feature[self.panel.half[text] == half], minlength=size)
            n_texts = int((self.panel.half == half).sum())
            tested = cluster_t(_some(scores, chosen), n.astype(np.float64), n_texts)
            columns |= {f"t_{name}": tested.t, f"p_{name}": tested.p}
        self.found.append(columns)
        self._take_categories(codes, g, scores, part)

    def _centred(self, codes: Codes, g: np.ndarray, part: slice) -> np.ndarray:
        """g at the codes with window and position means off."""
        directions, effects = self.gradients.directions[part], self.gradients.effects
        window, position = self.panel.window[codes.row], self.panel.position[codes.row]
        by_window, by_position = effects.window.times(directions), directions @ effects.position.T
        return g + by_window[codes.feature, window] + by_position[codes.feature, position]

    def _by_group(self, scores: Scores, size: int) -> np.ndarray:
        """[features, groups]: scores summed over groups of texts."""
        groups = np.zeros((size, int(self.panel.group.max(initial=0)) + 1))
        np.add.at(groups, (scores.feature, self.panel.group[scores.text]), scores.score)
        return groups

    def _of_efas(
        self,
        codes: Codes,
        z: np.ndarray,
        g: np.ndarray,
        sums: Sums,
        whole: ClusterT,
        part: slice,
    ) -> tuple[np.ndarray, np.ndarray]:
        """t and p of the plain correlation: sums over texts of (z - mean)(g - mean), to which
        texts without the feature add too."""
        shape = (codes.end - codes.first, self.panel.n_texts)
        place = codes.feature * shape[1] + self.panel.text_of(codes.row)
        zg, zs = (
            np.bincount(place, values, shape[0] * shape[1]).reshape(shape) for values in (z * g, z)
        )
        mean_z, mean_g = (x[:, None] / max(sums.n_tokens, 1) for x in (sums.z, sums.g))
        by_window = self.gradients.effects.sums.times(self.gradients.directions[part])
        gs = -np.add.reduceat(by_window, self.panel.first_windows, axis=1)
        products = zg - mean_g * zs - mean_z * (gs - mean_g * self.panel.text_sizes)
        return t_of_sums(products, ~np.isnan(whole.t))

    def _g(self, codes: Codes) -> np.ndarray:
        if self.gradients.at is None:
            return codes.g[self.variant].astype(np.float64)
        return self.gradients.at(codes.row, codes.feature + codes.first)

    def rows(self) -> dict[str, np.ndarray]:
        """Every feature's row."""
        columns = {name: np.concatenate([c[name] for c in self.found]) for name in self.found[0]}
        columns["q"] = benjamini_hochberg(columns["p"])
        columns["q_efas"] = benjamini_hochberg(columns["p_efas"])
        columns["p_familywise"] = self.flips.familywise(columns["t"])
        columns["feature_id"] = np.arange(len(columns["t"]))
        return {name: columns[name] for name in ("feature_id", *_COLUMNS)}

    def category_rows(self) -> Iterator[dict[str, np.ndarray]]:
        """Rows by category, of features that are active in it."""
        names = self.by_category[0] if self.by_category else {}
        columns = {n: np.concatenate([c[n] for c in self.by_category], axis=1) for n in names}
        if not columns or not self.panel.categories:
            return
        q = benjamini_hochberg(columns["p"].ravel()).reshape(columns["p"].shape)
        for number, category in enumerate(self.panel.categories):
            active = np.flatnonzero(columns["n_active"][number] > 0)
            yield {
                "feature_id": active,
                "category": np.full(len(active), category, dtype=object),
                **{name: values[number, active] for name, values in columns.items()},
                "q": q[number, active],
            }

    def _sums(
        self,
        feature: np.ndarray,
        z: np.ndarray,
        g: np.ndarray,
        size: int,
        n_tokens: int,
        part: slice,
        category: int | None = None,
    ) -> Sums:
        def total(weights: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(feature, weights, size).astype(np.float64)

        chosen = slice(None) if category is None else slice(category, category + 1)
        return Sums(
            n_tokens=n_tokens,
            n_active=total(),
            z=total(z),
            zz=total(z * z),
            zg=total(z * g),
            g_active=total(g),
            gg_active=total(g * g),
            g=self.gradients.totals.g[chosen, part].sum(axis=0),
            gg=self.gradients.totals.gg[chosen, part].sum(axis=0),
        )

    def _adjusted(
        self, codes: Codes, sums: Sums, z: np.ndarray, g: np.ndarray, part: slice
    ) -> dict[str, np.ndarray]:
        x = self.panel.covariates(codes.row)
        if self.variant == "energy":  # it is one of the covariates itself
            x = x[:, :3]
        q = x.shape[1]
        size = codes.end - codes.first
        zx = np.stack([np.bincount(codes.feature, z * x[:, i], size) for i in range(q)], axis=1)
        partial, beta = adjust_for(sums, zx, self.gradients.totals.gx[part, :q], self._xx[:q, :q])
        left = g - np.einsum("eq,eq->e", x, beta[codes.feature])
        scores = text_scores(codes.feature, self.panel.text_of(codes.row), z, left)
        tested = cluster_t(scores, sums.n_active, self.panel.n_texts)
        return {"adjusted": partial, "t_adjusted": tested.t, "p_adjusted": tested.p}

    def _take_categories(self, codes: Codes, g: np.ndarray, scores: Scores, part: slice) -> None:
        size = codes.end - codes.first
        of_code = self.panel.category[self.panel.text_of(codes.row)]
        of_score = self.panel.category[scores.text]
        rows: dict[str, list[np.ndarray]] = {
            name: [] for name in ("n_active", "n_texts", "efas", "attribution", "t", "p")
        }
        for number in range(len(self.panel.categories)):
            inside = of_code == number
            n_tokens = int(self.panel.text_sizes[self.panel.category == number].sum())
            sums = self._sums(
                codes.feature[inside], codes.z[inside], g[inside], size, n_tokens, part, number
            )
            found = align(sums)
            own = _some(scores, of_score == number)
            tested = cluster_t(own, sums.n_active, int((self.panel.category == number).sum()))
            for name, value in (
                ("n_active", sums.n_active),
                ("n_texts", tested.n_texts),
                ("efas", found.efas),
                ("attribution", found.attribution),
                ("t", tested.t),
                ("p", tested.p),
            ):
                rows[name].append(value)
        if self.panel.categories:
            self.by_category.append({name: np.stack(values) for name, values in rows.items()})


def _some(scores: Scores, chosen: np.ndarray) -> Scores:
    return Scores(scores.feature[chosen], scores.text[chosen], scores.score[chosen])


def _in_units(
    whole: ClusterT, groups: np.ndarray, found: Alignment, n_tokens: int
) -> dict[str, np.ndarray]:
    """The centred covariance, its 95 % interval and its parts, in the units of a correlation."""
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = n_tokens * found.std_activation * found.std_gradient
        return {
            "within": whole.total / unit,
            "within_low": whole.low / unit,
            "within_high": whole.high / unit,
            "within_groups": np.where(np.isnan(whole.t), np.nan, 1.0)[:, None]
            * groups
            / unit[:, None],
        }


def _named(run: RunInfo, sae: SaeInfo, variant: str, columns: dict[str, np.ndarray]) -> pa.Table:
    n = len(columns["feature_id"])
    names = constants(n, run_id=run.run_id, sae_id=sae.sae_id, variant=variant)
    return pa.table({**names, **{name: _nullable(values) for name, values in columns.items()}})


def _nullable(values: np.ndarray) -> pa.Array:
    if values.dtype == object:
        return pa.array(values, pa.string())
    if values.ndim == 2:
        is_known = ~np.isnan(values[:, :1].ravel())
        lists = [row if known else None for row, known in zip(values, is_known, strict=True)]
        return pa.array(lists, pa.list_(pa.float32()))
    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    return pa.array(values)
