"""Every named query: it binds, is documented, has its Python function, and says what numpy says."""

import importlib
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from energylens.db.store import Store
from energylens.errors import QueryError, UnknownNameError
from energylens.queries.catalog import call, named_queries, usage
from energylens.queries.contexts import (
    activation_samples,
    context_tokens,
    feature_contexts,
    feature_text_means,
    token_features,
    top_activations,
)
from energylens.queries.energies import category_summary, energy_by_layer, text_energies
from energylens.queries.features import (
    best_features,
    coactive_features,
    concept_features,
    feature,
    feature_categories,
    feature_histogram,
    logit_distribution,
    most_frequent_features,
    most_selective_features,
    promoted_tokens,
    similar_features,
    strongest_features,
)
from energylens.queries.masks import WithMasked

SAE = "resid"
VALUES = {
    "sae": "one", "other_sae": "two", "feature": 3, "partner": 5, "in_context": 1, "at_token": 17,
    "pattern": "cat|dog", "in_text": 1, "in_category": "a", "from_layer": 0,
    "at_head": 1, "words": "cat", "graph": "small", "other_graph": "chance", "at_node": "1_5_2",
    "from_node": "E_12_2",
}  # fmt: skip
MODULES = (
    "features",
    "contexts",
    "energies",
    "specialists",
    "efas",
    "coactivation",
    "routing",
    "heads",
    "two_runs",
    "notes",
    "ratings",
    "explanations",
    "maps",
    "graphs",
)


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


@pytest.fixture
def codes(store: Store) -> pl.DataFrame:
    return frame(
        store,
        "SELECT c.*, t.is_masked, t.context_id, x.text_id, y.category, y.text FROM codes c JOIN "
        "tokens t USING (run_id, token_index) JOIN contexts x USING (run_id, context_id) JOIN "
        "texts y USING (run_id, text_id) WHERE sae_id = 'resid'",
    )


@pytest.mark.parametrize("name", named_queries())
def test_each_query_runs_is_documented_and_has_its_function(rich: Store, name: str) -> None:
    query = named_queries()[name]
    assert query.doc.endswith(".") and len(query.doc) > 30
    run = rich.runs[0].info.run_id
    path = frame(rich, "SELECT choices FROM routing_circuits WHERE first_layer = 0 LIMIT 1")
    known = {**VALUES, "run": run, "other_run": run, "of_choices": path["choices"][0].to_list()}
    values = {p.name: known[p.name] for p in query.parameters if p.default is None}
    rows = call(rich, name, **values)
    assert len(rows), name
    modules = [importlib.import_module(f"energylens.queries.{m}") for m in MODULES]
    (function,) = [getattr(m, name) for m in modules if hasattr(m, name)]
    parameters = inspect.signature(function).parameters
    masks = list(WithMasked.__annotations__) if "shown" in parameters else []
    named = [name for name in list(parameters)[1:] if name != "shown"]
    assert named + masks == [p.name for p in query.parameters]
    for p in query.parameters:
        default = False if p.name in masks else parameters[p.name].default
        written = "NULL" if default is None else str(default)
        if isinstance(default, bool):
            written = written.lower()
        if isinstance(default, str):
            written = f"'{default}'"
        assert p.default == (None if default is inspect.Parameter.empty else written), p.name
    assert_frame_equal(function(rich, **values), rows)


def test_no_parameter_hides_a_column(store: Store) -> None:
    hidden = frame(
        store,
        "SELECT f.function_name, c.column_name FROM duckdb_functions() f, duckdb_columns() c "
        "WHERE f.function_type = 'table_macro' AND NOT f.internal AND NOT c.internal "
        "AND list_contains(f.parameters, c.column_name)",
    )
    assert hidden.is_empty(), hidden


def test_the_catalogue_tells_what_each_query_does(store: Store) -> None:
    told = frame(
        store,
        "SELECT function_name AS name, comment FROM duckdb_functions() "
        "WHERE function_type = 'table_macro' AND NOT internal",
    )
    assert dict(told.iter_rows()) == {q.name: q.doc for q in named_queries().values()}


def test_lists_of_features_are_sorted_by_what_they_are_named_for(
    store: Store, run_id: str, codes: pl.DataFrame
) -> None:
    kept = codes.filter(~pl.col("is_masked"))
    n_tokens = frame(store, "SELECT count(*) AS n FROM tokens WHERE NOT is_masked")["n"][0]
    by_feature = kept.group_by("feature_id").agg(
        pl.col("activation").max().alias("top"),
        pl.len().alias("n"),
        (pl.col("activation").cast(pl.Float64).sum() / n_tokens).alias("score"),
    )
    for function, column, shown in (
        (strongest_features, "top", "max_activation"),
        (most_frequent_features, "n", "n_active"),
        (best_features, "score", "score"),
    ):
        expected = by_feature.sort(column, "feature_id", descending=[True, False]).head(7)
        found = function(store, run_id, SAE, k=7)
        np.testing.assert_allclose(found[shown], expected[column], rtol=1e-6)
        if column != "n":
            assert found["feature_id"].to_list() == expected["feature_id"].to_list()


def test_selective_features_need_enough_texts(store: Store, run_id: str) -> None:
    found = most_selective_features(store, run_id, SAE, min_texts=3, k=100)
    assert found["selectivity"].is_sorted(descending=True)
    assert min(found["n_texts"].to_list()) >= 3
    assert not best_features(store, run_id, SAE, with_dense=False, k=100)["is_dense"].any()


def test_top_activations_carry_the_text_around_them(
    store: Store, run_id: str, codes: pl.DataFrame
) -> None:
    found = top_activations(store, run_id, SAE, 3, k=6)
    own = codes.filter((pl.col("feature_id") == 3) & ~pl.col("is_masked"))
    expected = own.sort("activation", descending=True).head(6)
    assert found["token_index"].to_list() == expected["token_index"].to_list()
    for row in found.iter_rows(named=True):
        text = codes.filter(pl.col("text_id") == row["text_id"])["text"][0]
        assert row["text_before"] + row["token"] + row["text_after"] in text


def test_contexts_and_their_tokens(store: Store, run_id: str, codes: pl.DataFrame) -> None:
    contexts = feature_contexts(store, run_id, SAE, 3, k=3)
    assert contexts["rank"].to_list() == [0, 1, 2]
    best = contexts.row(0, named=True)
    tokens = context_tokens(store, run_id, best["context_id"], SAE, 3)
    assert len(tokens) == best["n_tokens"]
    shown = tokens.filter(pl.col("activation").is_not_null())
    own = codes.filter(
        (pl.col("feature_id") == 3) & (pl.col("context_id") == best["context_id"])
    ).sort("token_index")
    assert shown["activation"].to_list() == own["activation"].to_list()
    plain = context_tokens(store, run_id, best["context_id"])
    assert plain["activation"].null_count() == len(plain) == len(tokens)


def test_features_at_a_token(store: Store, run_id: str) -> None:
    found = token_features(store, run_id, 17, k=1000)
    expected = frame(store, "SELECT * FROM codes WHERE token_index = 17")
    assert len(found) == len(expected) and set(found["sae_id"]) == {"resid", "mlp"}
    assert found["activation"].abs().is_sorted(descending=True)
    assert set(token_features(store, run_id, 17, SAE)["sae_id"]) == {SAE}


def test_no_share_of_a_maximum_is_above_one(store: Store, run_id: str) -> None:
    masked = frame(store, "SELECT token_index FROM tokens WHERE is_masked")["token_index"][:8]
    for token in [*masked, 17]:
        found = token_features(store, run_id, token, k=1000)
        top = frame(store, "SELECT sae_id, feature_id, max_activation FROM features")
        both = found.join(top, ["sae_id", "feature_id"], "left", maintain_order="left")
        for of, a, b in both.select("share_of_max", "activation", "max_activation").iter_rows():
            expected = a / b if b is not None and a <= b else None
            assert of == (None if expected is None else pytest.approx(expected))


def test_concept_features_weigh_matching_texts_against_the_rest(
    store: Store, run_id: str, codes: pl.DataFrame
) -> None:
    found = concept_features(store, run_id, SAE, "cat|dog", k=1000)
    texts = frame(store, "SELECT text_id, text FROM texts")
    means = frame(store, "SELECT * FROM feature_texts WHERE sae_id = 'resid'")
    matching = {i for i, t in texts.iter_rows() if "cat" in t or "dog" in t}
    assert len(matching) == 2
    for row in found.iter_rows(named=True):
        own = {
            r["text_id"]: r["mean_activation"]
            for r in means.filter(pl.col("feature_id") == row["feature_id"]).iter_rows(named=True)
        }
        inside = sum(own.get(i, 0.0) for i in matching) / len(matching)
        outside = sum(v for i, v in own.items() if i not in matching) / (len(texts) - len(matching))
        assert row["weight"] == pytest.approx(inside - outside, abs=1e-6)
        assert row["rate_in"] == pytest.approx(len(matching & own.keys()) / 2)
    assert found["weight"].is_sorted(descending=True)


def test_histograms_count_every_activation(store: Store, run_id: str, codes: pl.DataFrame) -> None:
    found = feature_histogram(store, run_id, SAE, 3, n_bins=7)
    own = codes.filter((pl.col("feature_id") == 3) & ~pl.col("is_masked"))["activation"]
    assert found["n"].sum() == len(own) and len(found) == 7
    expected = np.histogram(own, bins=7)[0]
    assert np.abs(found["n"].to_numpy() - expected).sum() <= 2


def test_coactive_features_equal_set_arithmetic(
    store: Store, run_id: str, codes: pl.DataFrame
) -> None:
    n_tokens = frame(store, "SELECT count(*) AS n FROM tokens")["n"][0]
    sets = {key[0]: set(part["token_index"]) for key, part in codes.group_by("feature_id")}
    found = coactive_features(store, run_id, SAE, 3, k=1000)
    assert len(found) == sum(bool(s & sets[3]) for f, s in sets.items() if f != 3)
    for row in found.iter_rows(named=True):
        other = sets[row["feature_id"]]
        both = len(sets[3] & other)
        assert row["n_both"] == both
        assert row["jaccard"] == pytest.approx(both / len(sets[3] | other))
        assert row["lift"] == pytest.approx(both * n_tokens / (len(sets[3]) * len(other)))


def test_samples_lie_in_their_intervals(store: Store, run_id: str, codes: pl.DataFrame) -> None:
    busiest = int(codes["feature_id"].mode()[0])
    own = codes.filter((pl.col("feature_id") == busiest) & ~pl.col("is_masked"))
    found = activation_samples(store, run_id, SAE, busiest, n_intervals=4, k=3)
    counts, edges = np.histogram(own["activation"].to_numpy().astype(float), 4)
    for row in found.iter_rows(named=True):
        assert row["interval_low"] == pytest.approx(edges[row["interval_id"]])
        assert row["n_tokens"] == counts[row["interval_id"]]
        assert edges[row["interval_id"]] <= row["activation"] + 1e-6
        assert row["activation"] <= edges[row["interval_id"] + 1] + 1e-6
    drawn = found.group_by("interval_id").len()
    assert dict(drawn.iter_rows()) == {i: min(n, 3) for i, n in enumerate(counts) if n}
    again = activation_samples(store, run_id, SAE, busiest, n_intervals=4, k=3)
    assert found.equals(again)


def test_a_feature_has_a_mean_in_every_text(store: Store, run_id: str, codes: pl.DataFrame) -> None:
    busiest = int(codes["feature_id"].mode()[0])
    found = feature_text_means(store, run_id, SAE, busiest)
    sizes = dict(frame(store, "SELECT c.text_id, count(*) FILTER (NOT t.is_masked) FROM tokens t "
        "JOIN contexts c USING (run_id, context_id) GROUP BY 1").iter_rows())  # fmt: skip
    assert len(found) == len(sizes)
    own = codes.filter((pl.col("feature_id") == busiest) & ~pl.col("is_masked"))
    for row in found.iter_rows(named=True):
        inside = own.filter(pl.col("text_id") == row["text_id"])["activation"].to_numpy()
        assert row["n_active"] == len(inside)
        assert row["mean_activation"] == pytest.approx(inside.sum() / sizes[row["text_id"]], 1e-5)


def test_categories_of_a_feature(store: Store, run_id: str) -> None:
    found = feature_categories(store, run_id, SAE, 3)
    assert set(found["category"]) == {"animals", "numbers"}
    assert found["n_texts"].sum() == 6
    means = feature_text_means(store, run_id, SAE, 3)
    for row in found.iter_rows(named=True):
        own = means.filter(pl.col("category") == row["category"])
        assert (row["n_texts"], row["n_active_texts"]) == (len(own), (own["n_active"] > 0).sum())
        assert row["rate"] == row["n_active_texts"] / row["n_texts"]
        assert row["mean_activation"] == pytest.approx(own["mean_activation"].mean())
    assert (found["rate"] < 1).any(), "means over active texts would be the same"


def test_logits_and_neighbours_are_listed(store: Store, run_id: str) -> None:
    logits = promoted_tokens(store, run_id, SAE, 3)
    assert logits["direction"].to_list() == ["top"] * 10 + ["bottom"] * 10
    assert logits.head(10)["logit_weight"].is_sorted(descending=True)
    spread = logit_distribution(store, run_id, SAE, 3)
    assert spread["highest"][0] == logits["logit_weight"][0] and len(spread["histogram"][0]) == 40
    near = similar_features(store, run_id, SAE, 3)
    assert near["rank"].to_list() == list(range(10)) and near["cosine"].is_sorted(descending=True)


def test_energies_of_texts_layers_and_categories(store: Store, run_id: str) -> None:
    tokens = text_energies(store, run_id, 1, at_layer=0)
    stored = frame(store, "SELECT token_index, energy FROM energies WHERE layer = 0")
    merged = tokens.join(stored, on="token_index", how="left", suffix="_stored")
    assert merged["lens_energy"].equals(merged["energy_stored"])
    output = text_energies(store, run_id, 1)
    assert output["lens_energy"].equals(output["energy"])
    layers = energy_by_layer(store, run_id)
    overall = layers.filter(pl.col("category").is_null())
    assert overall["layer"].to_list() == [-1, 0, 1, 2]
    last = frame(store, "SELECT avg(energy) AS e FROM tokens WHERE NOT is_masked")["e"][0]
    assert overall["mean_energy"][-1] == pytest.approx(last)
    summary = category_summary(store, run_id)
    assert summary["n_texts"].sum() == 6
    for row in summary.iter_rows(named=True):
        assert row["perplexity"] == pytest.approx(math.exp(row["mean_energy"]))


def test_one_feature_as_a_record(store: Store, run_id: str) -> None:
    found = feature(store, run_id, SAE, 3)
    assert (found.feature_id, found.sae_id) == (3, SAE)
    assert found.histogram is not None and sum(found.histogram) == found.n_active
    with pytest.raises(QueryError, match="no feature 999"):
        feature(store, run_id, SAE, 999)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("nothing", {}, "there is no query 'nothing'"),
        ("top_activation", {}, "nearest: top_activations, "),
        ("best_features", {}, "say which sae: sae=mlp, sae=resid"),
        ("top_activations", {"sae": "mlp"}, "feature must be given"),
        ("best_features", {"sae": "mlp", "n": 3}, "no parameter n"),
        ("best_features", {"sae": "mlp", "k": "many"}, "best_features"),
        ("concept_features", {"sae": "mlp", "pattern": "("}, "missing \\)"),
        ("best_features", {"sae": "mlp", "k": -1}, "best_features"),
    ],
)
def test_wrong_calls_say_how_it_is_called(
    store: Store, name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        call(store, name, **values)


def test_values_are_bound_and_never_pasted(store: Store, run_id: str) -> None:
    hostile = "'); DROP TABLE runs; --"
    with pytest.raises(UnknownNameError, match="has no SAE"):
        best_features(store, run_id, hostile)
    assert concept_features(store, run_id, SAE, hostile.replace(")", r"\)")).is_empty()
    assert frame(store, "SELECT count(*) AS n FROM runs")["n"][0] == 1


def test_usage_reads_like_the_call() -> None:
    assert usage(named_queries()["best_features"]) == (
        "best_features(run, sae, with_dense := true, k := 20)"
    )


def test_each_file_defines_the_macro_it_is_named_for() -> None:
    files = sorted(p.stem for p in Path("queries/sql").glob("*.sql"))
    assert files == sorted(named_queries())
