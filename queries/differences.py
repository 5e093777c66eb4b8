"""What two runs differ in, with tests: energies, features and specialists."""

import numpy as np
import polars as pl
from scipy import stats

from energylens.db.provenance import RunInfo
from energylens.db.store import Store
from energylens.queries.catalog import call
from energylens.queries.matching import match
from energylens.queries.matrices import Codes
from energylens.queries.two_runs import compare_rates, compare_saes, compare_texts
from energylens.stats.multiple_tests import benjamini_hochberg
from energylens.stats.paired import (
    RateSums,
    difference_of_means,
    difference_of_rates,
    fisher,
    mcnemar,
    paired_groups,
)

_TEXT_ENERGIES = """
SELECT x.category, avg(t.energy) AS by_token, sum(t.energy) / length(x.text) AS by_character
FROM texts AS x
JOIN contexts AS c ON c.run_id = x.run_id AND c.text_id = x.text_id
JOIN tokens AS t ON t.run_id = c.run_id AND t.context_id = c.context_id
WHERE x.run_id = $run AND NOT t.is_masked
GROUP BY x.text_id, x.category, x.text
HAVING count(t.energy) > 0
"""


def energies(store: Store, run: str, other_run: str, is_paired: bool, unit: str) -> pl.DataFrame:
    if is_paired:
        name = "mean_energy" if unit == "token" else "energy_a_character"
        texts = compare_texts(store, run, other_run)
        first = texts.select("category", value=pl.col(name))
        second = texts.select("category", value=pl.col(f"other_{name}"))
    else:
        first, second = (
            pl.DataFrame(
                store.cursor().sql(_TEXT_ENERGIES, params={"run": r}).to_arrow_table()
            ).select("category", value=pl.col(f"by_{unit}"))
            for r in (run, other_run)
        )
    shared = set(first["category"].drop_nulls()) & set(second["category"].drop_nulls())
    rows = []
    for category in (None, *sorted(shared)):
        x, y = (
            (f if category is None else f.filter(pl.col("category") == category))[
                "value"
            ].to_numpy()
            for f in (first, second)
        )
        rows.append({"category": category, **_difference(x, y, is_paired)})
    table = pl.DataFrame(rows, infer_schema_length=None)
    q = benjamini_hochberg(table["p"].cast(pl.Float64).fill_null(np.nan).to_numpy())
    return table.with_columns(q=pl.Series(q).fill_nan(None))


def _difference(x: np.ndarray, y: np.ndarray, is_paired: bool) -> dict[str, object]:
    found = difference_of_means(x, y, is_paired)
    numbers = {
        "mean": float(x.mean()) if len(x) else np.nan,
        "other_mean": float(y.mean()) if len(y) else np.nan,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
    }
    known = {name: None if np.isnan(value) else value for name, value in numbers.items()}
    return {"n_texts": len(x), "other_n_texts": len(y), **known}


def features(
    store: Store,
    one: RunInfo,
    other: RunInfo,
    pair: dict[str, object],
    is_paired: bool,
    k: int,
) -> pl.DataFrame | None:
    """Features of a pair of SAEs: the same ones where the weights are, else matched."""
    sae, other_sae = str(pair["sae_id"]), str(pair["other_sae_id"])
    if pair["is_same_sae"]:
        rates = _rate_tests(store, one.run_id, sae, other.run_id, other_sae, is_paired)
        table = compare_rates(store, one.run_id, sae, other.run_id, other_sae)
        table = table.join(rates, on="feature_id", how="left").with_columns(
            other_feature_id=pl.col("feature_id"), **_efas_tests(table, is_paired)
        )
        table = table.drop("within_groups", "other_within_groups")
        table = table.sort("p_rate", "feature_id", nulls_last=True)
    elif is_paired and _same_tokens(one, other):
        table = matched_runs(store, one.run_id, sae, other.run_id, other_sae)
    else:
        return None
    return table.head(k).with_columns(sae_id=pl.lit(sae), other_sae_id=pl.lit(other_sae))


def _same_tokens(one: RunInfo, other: RunInfo) -> bool:
    return (one.tokenizer_sha256, one.n_ctx, one.prepend_bos) == (
        other.tokenizer_sha256,
        other.n_ctx,
        other.prepend_bos,
    )


def matched_runs(store: Store, run: str, sae: str, other_run: str, other_sae: str) -> pl.DataFrame:
    """For each feature of an SAE, the feature of another run's SAE whose activations correlate
    most with it, over the same tokens; both runs must have read the same texts alike."""
    con = store.cursor()
    rows = con.execute(
        "SELECT a.token_index FROM tokens AS a JOIN tokens AS b ON b.run_id = $other "
        "AND b.token_index = a.token_index AND b.vocab_id = a.vocab_id "
        "WHERE a.run_id = $run AND NOT a.is_masked AND NOT b.is_masked ORDER BY a.token_index",
        {"run": run, "other": other_run},
    ).fetchnumpy()
    index = np.asarray(rows["token_index"])
    mine, theirs = (
        Codes(con, r, s.sae_id, s.d_sae, s.l0 or 1.0, index)
        for r, name in ((run, sae), (other_run, other_sae))
        for s in store.run(r).info.saes
        if s.sae_id == name
    )
    found = [pl.DataFrame(part) for part in match(mine, theirs, None)]
    table = pl.concat(found).filter(pl.col("rank") == 0) if found else pl.DataFrame()
    return table.drop("rank", "cosine").sort("correlation", descending=True)


_RATES = """
WITH sized AS (
    SELECT x.run_id, x.text_id, x.sha256, count(*) AS n
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = t.run_id AND c.context_id = t.context_id
    JOIN texts AS x ON x.run_id = t.run_id AND x.text_id = c.text_id
    WHERE t.run_id IN ($run, $other_run) AND NOT t.is_masked
    GROUP BY ALL
),
rates AS (
    SELECT f.run_id, f.feature_id, s.text_id, f.n_active / s.n AS rate
    FROM feature_texts AS f
    JOIN sized AS s ON s.run_id = f.run_id AND s.text_id = f.text_id
    WHERE (f.run_id = $run AND f.sae_id = $sae)
        OR (f.run_id = $other_run AND f.sae_id = $other_sae)
),
paired AS (
    SELECT coalesce(a.feature_id, b.feature_id) AS feature_id,
        sum(coalesce(b.rate, 0) - coalesce(a.rate, 0)) AS d,
        sum((coalesce(b.rate, 0) - coalesce(a.rate, 0)) ** 2) AS dd,
        count(*) FILTER (coalesce(b.rate, 0) <> coalesce(a.rate, 0)) AS n_other
    FROM (SELECT * FROM rates WHERE run_id = $run) AS a
    FULL JOIN (SELECT * FROM rates WHERE run_id = $other_run) AS b
        ON b.feature_id = a.feature_id AND b.text_id = a.text_id
    GROUP BY 1
)
SELECT coalesce(m.feature_id, p.feature_id) AS feature_id, m.s, m.ss, m.t, m.tt, p.d, p.dd,
    m.n_active, p.n_other,
    (SELECT count(*) FROM sized WHERE run_id = $run) AS n,
    (SELECT count(*) FROM sized WHERE run_id = $other_run) AS m
FROM (
    SELECT r.feature_id, sum(r.rate) FILTER (r.run_id = $run) AS s,
        sum(r.rate ** 2) FILTER (r.run_id = $run) AS ss,
        sum(r.rate) FILTER (r.run_id = $other_run) AS t,
        sum(r.rate ** 2) FILTER (r.run_id = $other_run) AS tt, count(*) AS n_active
    FROM rates AS r
    GROUP BY r.feature_id
) AS m
LEFT JOIN paired AS p ON p.feature_id = m.feature_id
ORDER BY 1
"""


def _rate_tests(
    store: Store, run: str, sae: str, other_run: str, other_sae: str, is_paired: bool
) -> pl.DataFrame:
    """t of the difference of each feature's rate over texts, from sums; silent texts count 0."""
    names = {"run": run, "sae": sae, "other_run": other_run, "other_sae": other_sae}
    rows = store.cursor().sql(_RATES, params=names).to_arrow_table()
    sums = {name: np.nan_to_num(rows[name].to_numpy().astype(float)) for name in rows.column_names}
    k = sums.pop("n_other") if is_paired else sums["n_active"]
    kept = {name: sums[name] for name in ("n", "m", "s", "ss", "t", "tt", "d", "dd")}
    middle, t, p = difference_of_rates(RateSums(**kept, k=k.astype(np.int64)), is_paired)
    return pl.DataFrame(
        {
            "feature_id": rows["feature_id"].to_numpy(),
            "rate_difference": middle,
            "t_rate": t,
            "p_rate": p,
            "q_rate": benjamini_hochberg(p),
        }
    ).with_columns(pl.selectors.float().fill_nan(None))


def _efas_tests(table: pl.DataFrame, is_paired: bool) -> dict[str, pl.Series]:
    """t of the difference of the centred EFAS: from groups of the same texts, or as of two
    samples."""
    if is_paired:
        t, p = _paired_efas(table)
    else:
        within, its_t, other, other_t, n, m = (
            table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            for name in (
                "within", "t", "other_within", "other_t", "n_efas_texts", "other_n_efas_texts",
            )
        )  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (other - within) / np.hypot(within / its_t, other / other_t)
        p = 2 * stats.t.sf(np.abs(t), np.minimum(n, m) - 1)
    return {
        "t_efas": pl.Series(t).fill_nan(None),
        "p_efas": pl.Series(p).fill_nan(None),
        "q_efas": pl.Series(benjamini_hochberg(p)).fill_nan(None),
    }


def _paired_efas(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    t, p = np.full(len(table), np.nan), np.full(len(table), np.nan)
    one, other = table["within_groups"], table["other_within_groups"]
    lengths = one.list.len()
    widest = lengths.max()
    if widest is None:  # neither run has groups: its texts are too few, or there is no EFAS
        return t, p
    rows = np.flatnonzero(((lengths == widest) & (other.list.len() == widest)).fill_null(False))
    if len(rows):
        groups = (np.array(column.gather(rows).to_list(), dtype=float) for column in (one, other))
        _, t[rows], p[rows] = paired_groups(*groups)
    return t, p


_STRONG = """
SELECT x.text_id, $feature AS feature_id
FROM feature_texts AS f
JOIN texts AS x ON x.run_id = f.run_id AND x.text_id = f.text_id
WHERE f.run_id = $run AND f.sae_id = $sae AND f.feature_id = $feature
    AND x.category = $category AND f.mean_activation > 0
    AND f.mean_activation >= 0.25 * (
        SELECT max(g.mean_activation) FROM feature_texts AS g
        WHERE g.run_id = $run AND g.sae_id = $sae AND g.feature_id = $feature
    )
"""


def specialists(store: Store, run: str, other_run: str, is_paired: bool) -> pl.DataFrame:
    """The best specialists of both runs with a test of their strong texts inside the category:
    McNemar's exact one over the same texts, else Fisher's."""
    places = compare_saes(store, run, other_run).select("sae_id", "other_sae_id", "hook_name")
    first, second = (call(store, "specialist_matrix", run=r) for r in (run, other_run))
    kept = ("feature_id", "score", "n_strong_in", "n_in", "auroc", "is_found")
    table = (
        places.join(first.select("sae_id", "category", *kept), on="sae_id")
        .join(
            second.select(
                "category",
                pl.col("sae_id").alias("other_sae_id"),
                *(pl.col(name).alias(f"other_{name}") for name in kept),
            ),
            on=["other_sae_id", "category"],
        )
        .sort("category", "hook_name", "sae_id", "other_sae_id")
    )

    def strong(row: dict[str, object], run_id: str, prefix: str) -> set[int]:
        asked = {
            "run": run_id,
            "sae": row[f"{prefix}sae_id"],
            "feature": row[f"{prefix}feature_id"],
            "category": row["category"],
        }
        return {found[0] for found in store.cursor().execute(_STRONG, asked).fetchall()}

    def p_of(row: dict[str, object]) -> float:
        if not is_paired:
            counts = [
                (int(str(row[f"{o}n_strong_in"])), int(str(row[f"{o}n_in"])))
                for o in ("", "other_")
            ]
            return fisher(*counts)
        one, other = strong(row, run, ""), strong(row, other_run, "other_")
        texts = sorted(one | other)
        return mcnemar(*(np.array([t in held for t in texts], bool) for held in (one, other)))

    p = np.array([p_of(row) for row in table.iter_rows(named=True)], dtype=float)
    return table.with_columns(
        p=pl.Series(p).fill_nan(None), q=pl.Series(benjamini_hochberg(p)).fill_nan(None)
    )
