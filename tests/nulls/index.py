"""Simulations of what the index of one run holds: features, pairs, categories, EFAS."""

import numpy as np
import polars as pl

from energylens.queries.efas import efas_split
from tests.nulls.memory import Frames, Memory
from tests.nulls.tally import NULL, POWER, Tally
from tests.nulls.worlds import N_FEATURES, N_PLANTED, world
from tests.synthetic import CATEGORIES, RUN, SAE, Layout, World

_WITHIN = ("p", "p_flip", "p_even", "p_odd")
_PLAIN = (*_WITHIN, "p_efas", "p_adjusted")


def unrelated(memory: Memory, layout: Layout, seed: int, kind: str) -> Tally:
    """A run without any signal but what `kind` says is shared."""
    simulated = {RUN: world(layout, seed, kind, with_routing=True)}
    memory.fill(simulated)
    parts = ("efas", "specialists", "coactivation", "routing_features")
    found = memory.index(simulated, parts if kind == "plain" else ("efas",))
    tally = Tally()
    efas = _lens(found["efas"])
    if kind == "covariates":
        tally.p("efas.p_adjusted", efas["p_adjusted"])
        return tally
    for name in _PLAIN if kind == "plain" else _WITHIN:
        tally.p(f"efas.{name}", efas[name])
    tally.any("efas.q", efas["q"])
    tally.any("efas.p_familywise", efas["p_familywise"])
    by_category = _lens(found["efas_categories"])
    tally.p("efas_categories.p", by_category["p"])
    tally.any("efas_categories.q", by_category["q"])
    low, high = (_numbers(efas[f"within_{end}"]) for end in ("low", "high"))
    tally.interval("efas.within", low, high, 0.0)
    if kind == "profile":
        return tally
    tally.any("efas.q_efas", efas["q_efas"])
    for variant in ("energy", "position"):
        scalar = found["efas"].filter(pl.col("variant") == variant)
        for name in _PLAIN:
            tally.p(f"efas.{name} ({variant})", scalar[name])
    tally.p("efas_split.p_reported", efas_split(memory, RUN, SAE, k=8)["p_reported"])
    tally.p("specialists.p", found["specialists"]["p"])
    tally.any("specialists.q", found["specialists"]["q"])
    _pairs(tally, found)
    features = found["routing_features"]
    tally.p("routing_features.p", features["p"])
    for _, own in features.group_by("router"):
        tally.any("routing_features.q", own["q"])
    return tally


def patterns(memory: Memory, layout: Layout, seed: int, is_planted: bool) -> Tally:
    """Patterns of features that know nothing of tokens, or some of which follow one."""
    simulated = {RUN: world(layout, seed)}
    if is_planted:
        _follow_tokens(simulated[RUN], seed)
    memory.fill(simulated)
    found = memory.index(simulated, ("patterns",))["feature_patterns"]
    tally = Tally()
    if is_planted:
        is_own = found["feature_id"] < N_PLANTED
        tally.p("feature_patterns.p", found.filter(is_own)["p"], POWER)
        tally.discoveries("feature_patterns.q", found["q"], is_own)
        return tally
    tally.p("feature_patterns.p", found["p"])
    tally.any("feature_patterns.q", found["q"])
    low, high = (_numbers(found[f"balanced_accuracy_{end}"]) for end in ("low", "high"))
    tally.interval("feature_patterns.balanced_accuracy", low, high, 0.5)
    return tally


def _follow_tokens(simulated: World, seed: int) -> None:
    """Make some features fire on half of the places of a token, and on one of a hundred others."""
    generator = np.random.default_rng(seed)
    vocab = np.asarray(simulated.vocab_id)
    for feature in range(N_PLANTED):
        drawn = generator.random((2, len(vocab)))
        is_on = np.where(vocab == 5 + feature, drawn[0] < 0.5, drawn[0] < 0.01)
        simulated.z[:, feature] = is_on * (1 + drawn[1])


def planted(memory: Memory, layout: Layout, seed: int) -> Tally:
    """A run with signals of every kind."""
    simulated = {RUN: world(layout, seed, is_planted=True, with_routing=True)}
    memory.fill(simulated)
    found = memory.index(simulated, ("efas", "specialists", "coactivation", "routing_features"))
    tally = Tally()
    efas = _lens(found["efas"]).with_columns(is_planted=pl.col("feature_id") < N_PLANTED)
    own = efas.filter("is_planted")
    for name in (*_PLAIN, "p_familywise"):
        tally.p(f"efas.{name}", own[name], POWER)
    for name in ("q", "q_efas"):
        tally.discoveries(f"efas.{name}", efas[name], efas["is_planted"])
    split = efas_split(memory, RUN, SAE, k=8).filter(pl.col("feature_id") < N_PLANTED)
    tally.p("efas_split.p_reported", split["p_reported"], POWER)
    by_category = _lens(found["efas_categories"])
    is_planted = by_category["feature_id"] < N_PLANTED
    tally.p("efas_categories.p", by_category.filter(is_planted)["p"], POWER)
    tally.discoveries("efas_categories.q", by_category["q"], is_planted)
    low, high = (_numbers(own[f"within_{end}"]) for end in ("low", "high"))
    tally.excludes_zero("efas.within", low, high)
    specialists = found["specialists"]
    home = pl.Series([CATEGORIES.index(c) for c in specialists["category"]])
    kept = specialists["feature_id"].is_between(N_PLANTED, 2 * N_PLANTED - 1)
    is_home = kept & (specialists["feature_id"] % 4 == home)
    tally.p("specialists.p", specialists.filter(is_home)["p"], POWER)
    tally.discoveries("specialists.q", specialists["q"], is_home)
    pairs = _listed_pairs(found)
    a, b = pairs["feature_id"], pairs["partner_id"]
    together = a.is_between(2 * N_PLANTED, 3 * N_PLANTED - 1) & (b == a + 1) & (a % 2 == 0)
    alike = a.is_between(N_PLANTED, 2 * N_PLANTED - 1) & b.is_between(N_PLANTED, 2 * N_PLANTED - 1)
    routed = (a >= 3 * N_PLANTED) & (a < 3 * N_PLANTED + 4) | (b >= 3 * N_PLANTED) & (
        b < 3 * N_PLANTED + 4
    )
    tally.p("coactivation.p", pairs.filter(together)["p"], POWER)
    rest = pairs.filter(~(alike | routed))
    tally.discoveries("coactivation.q", rest["q"], together.filter(~(alike | routed)))
    _routed(tally, found)
    return tally


def _routed(tally: Tally, found: Frames) -> None:
    """Features that are active on one choice of the second router alone."""
    rows = found["routing_features"].filter(pl.col("layer") == 1)
    first = 3 * N_PLANTED
    own = rows["feature_id"].is_between(first, first + 3)
    is_home = own & (rows["feature_id"] % 4 == rows["choice_id"])
    tally.p("routing_features.p", rows.filter(is_home)["p"], POWER)
    tally.add(
        "routing_features.q",
        POWER,
        int(is_home.sum()),
        int(((rows["q"] < 0.05).fill_null(False) & is_home).sum()),
    )


def _pairs(tally: Tally, found: Frames) -> None:
    """All pairs of features that are active somewhere; those that share no text have p = 1."""
    pairs = _listed_pairs(found)
    if pairs["p"].null_count() == len(pairs):
        return
    n_live = int((found["features"]["n_active"] > 0).sum())
    hits = int((pairs["p"] <= 0.05).sum())
    tally.add("coactivation.p", NULL, n_live * (n_live - 1) // 2, hits)
    tally.any("coactivation.q", found["coactivation"]["q"])


def _listed_pairs(found: Frames) -> pl.DataFrame:
    rows = found["coactivation"].filter(pl.col("unit") == "text")
    return rows.filter(pl.col("feature_id") < pl.col("partner_id"))


def _lens(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("variant") == "lens")


def _numbers(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


assert N_FEATURES > 3 * N_PLANTED + 4, "some features stay unrelated to anything"
