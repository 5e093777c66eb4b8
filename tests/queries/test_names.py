"""Names people give: left out, begun, wrong. A wrong one is an error that tells the nearest."""

from dataclasses import replace
from typing import Any

import pytest

from energylens.db.store import Session, Store
from energylens.errors import QueryError, UnknownNameError
from energylens.queries.adhoc import ask
from energylens.queries.catalog import call, named_queries
from energylens.queries.features import feature
from energylens.queries.names import find_run, find_sae, nearest
from energylens.queries.scope import LOOKED_UP

PLAIN = {
    "k", "n_bins", "n_intervals", "min_texts", "min_z", "threshold", "pattern", "words", "is_high",
    "over_layers", "of_choices", "with_dense", "least_both", "most_q",
    "of_within", "with_first", "with_padding", "with_sinks",
    "with_special", "of_features", "min_score", "min_graphs", "min_part",
}  # fmt: skip
"""Parameters that name nothing of a store."""
RIGHT = {
    "sae": "one", "other_sae": "two", "feature": 3, "partner": 5, "in_context": 1, "at_token": 17,
    "pattern": "cat", "in_text": 1, "in_category": "a", "from_layer": 0, "of_choices": [0],
    "at_head": 1, "words": "cat", "graph": "small", "other_graph": "chance", "at_node": "1_5_2",
    "from_node": "E_12_2",
}  # fmt: skip
WRONG: dict[str, Any] = {
    "run": "mixtrl", "other_run": "mixtrl", "sae": "tow", "in_sae": "tow", "other_sae": "tow",
    "partner_sae": "tow", "feature": 48, "partner": -1, "in_text": 40, "in_context": 10_000,
    "at_token": 10**9, "in_category": "c", "from_layer": 2, "at_layer": -2, "of_variant": "lense",
    "by_unit": "tokens", "at_head": 9, "by_score": "inducing", "graph": "smal1", "other_graph": "n",
    "at_node": "1_5_3", "from_node": "E_1", "to_node": "logit",
}  # fmt: skip


def test_each_parameter_is_looked_up_or_a_plain_value() -> None:
    used = {p.name for query in named_queries().values() for p in query.parameters}
    assert used == set(LOOKED_UP) | PLAIN and not set(LOOKED_UP) & PLAIN
    assert set(LOOKED_UP) == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_is_an_error_in_every_query(rich: Store, rich_run: str, name: str) -> None:
    asked = [q for q in named_queries().values() if name in {p.name for p in q.parameters}]
    assert asked
    for query in asked:
        known = {**RIGHT, "run": rich_run, "other_run": rich_run}
        values = {p.name: known[p.name] for p in query.parameters if p.default is None}
        if name == "feature":
            of = "sae" if "sae" in {p.name for p in query.parameters} else "in_sae"
            values[of] = RIGHT["sae"]
        with pytest.raises(UnknownNameError) as error:
            call(rich, query.name, **{**values, name: WRONG[name]})
        assert str(WRONG[name]) in str(error.value), query.name


def test_wrong_names_come_with_the_nearest(rich: Store, rich_run: str) -> None:
    for name, near in (
        ("sae", "nearest: two, one, mlp"),
        ("of_variant", "nearest: lens"),
        ("in_category", "has no category 'c'; nearest: a, b"),
        ("feature", "features 0 to 47"),
    ):
        query = {"sae": "best_features", "of_variant": "efas_ranking", "feature": "feature_efas",
                 "in_category": "text_behaviour"}[name]  # fmt: skip
        values = {"sae": "one"} if name in ("of_variant", "feature") else {}
        with pytest.raises(UnknownNameError, match=near):
            call(rich, query, **{**values, name: WRONG[name]})


def test_what_is_left_out_or_begun(rich: Store, rich_run: str) -> None:
    whole = call(rich, "best_features", run=rich_run, sae="one")
    assert call(rich, "best_features", sae="on").equals(whole)
    assert call(rich, "best_features", run=rich_run[:4], sae="o").equals(whole)
    assert call(Session(rich), "best_features", run=None, sae="one").equals(whole)
    with pytest.raises(UnknownNameError, match="say which sae: sae=mlp, sae=one, sae=two"):
        call(rich, "best_features")
    with pytest.raises(UnknownNameError, match="no SAE ''"):
        call(rich, "best_features", sae="")


def test_null_keeps_its_meaning(rich: Store) -> None:
    every = call(rich, "token_features", at_token=17, sae=None, k=1000)
    assert set(every["sae_id"]) == {"one", "two", "mlp"}
    assert call(rich, "context_tokens", in_context=1)["activation"].is_null().all()
    assert len(call(rich, "text_behaviour", in_category=None)) == 40
    with pytest.raises(UnknownNameError, match="say which sae"):
        call(rich, "context_tokens", in_context=1, feature=3)


def test_a_number_is_a_whole_one(rich: Store) -> None:
    assert call(rich, "feature_efas", sae="one", feature="3").equals(
        call(rich, "feature_efas", sae="one", feature=3)
    )
    for wrong in ("3.5", 3.5, "three", True):
        with pytest.raises(UnknownNameError, match="takes a whole number"):
            call(rich, "feature_efas", sae="one", feature=wrong)


def test_a_place_between_contexts_holds_no_token(rich: Store, rich_run: str) -> None:
    n_ctx = rich.run(rich_run).info.n_ctx
    (short,) = rich.cursor().execute(
        "SELECT context_id, n_tokens FROM contexts WHERE n_tokens < $n LIMIT 1", {"n": n_ctx}
    ).fetchall()  # fmt: skip
    first, n = short[0] * n_ctx, short[1]
    call(rich, "token_features", at_token=first + n - 1)
    with pytest.raises(UnknownNameError, match=f"has the tokens {first} to {first + n - 1}"):
        call(rich, "token_features", at_token=first + n)


def test_what_is_legitimately_empty_stays_empty(rich: Store) -> None:
    assert call(rich, "concept_features", sae="one", pattern="nowhere in the texts").is_empty()
    assert call(rich, "explained_features", in_sae="two", pattern="nowhere").is_empty()
    assert call(rich, "noted_features", in_sae="two").is_empty()


def test_a_record_of_a_feature_has_the_same_names(rich: Store, rich_run: str) -> None:
    assert feature(rich, rich_run[:4], "on", 3) == feature(rich, rich_run, "one", 3)
    for run, sae, number in (("no", "one", 3), (rich_run, "tow", 3), (rich_run, "one", 48)):
        with pytest.raises(UnknownNameError):
            feature(rich, run, sae, number)


def test_runs_made_from_others_are_named_when_meant(rich: Store) -> None:
    corpus = replace(rich.runs[0].info, run_id="corpus-1")
    derived = replace(corpus, run_id="prompt-1", base_run="corpus-1")
    assert find_run([derived, corpus], None) is corpus
    assert find_run([derived, corpus], "pro") is derived
    second = replace(corpus, run_id="corpus-2")
    for given, said in (
        (None, "say which run: run=corpus-1, run=corpus-2"),
        ("corpus", "several names begin with 'corpus': corpus-1, corpus-2"),
        ("corups-1", "nearest: corpus-1, corpus-2"),
    ):
        with pytest.raises(UnknownNameError, match=said):
            find_run([corpus, second, derived], given)
    with pytest.raises(UnknownNameError, match="no run yet"):
        find_run([], None)
    with pytest.raises(UnknownNameError, match="the run has no SAE"):
        find_sae(replace(corpus, saes=[]), None)


def test_nearest_puts_what_holds_the_word_first() -> None:
    known = ["blocks.1.hook_mlp_out", "blocks.2.hook_resid_post", "blocks.10.hook_resid_post"]
    assert nearest("resid", known)[0] == "blocks.2.hook_resid_post"
    assert nearest("BLOCKS.1.hook_mlp", known)[0] == known[0]
    assert nearest("x", []) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_in_a_users_own_sql_is_an_error_too(
    rich: Store, rich_run: str, name: str
) -> None:
    asked = [q for q in named_queries().values() if name in {p.name for p in q.parameters}]
    for query in asked:
        known = {**RIGHT, "run": rich_run, "other_run": rich_run}
        values = {p.name: known[p.name] for p in query.parameters if p.default is None}
        if name == "feature":
            of = "sae" if "sae" in {p.name for p in query.parameters} else "in_sae"
            values[of] = RIGHT["sae"]
        given = {**values, name: WRONG[name]}
        by_name = ", ".join(f"{n} := {literal(value)}" for n, value in given.items())
        with pytest.raises(UnknownNameError, match=str(WRONG[name])):
            ask(rich, f"WITH x AS (FROM {query.name.upper()}({by_name})) SELECT count(*) FROM x")


def literal(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def test_in_sql_names_are_whole_and_what_is_computed_is_left_alone(
    rich: Store, rich_run: str
) -> None:
    whole = call(rich, "best_features", run=rich_run, sae="one")
    assert ask(rich, f"FROM best_features('{rich_run}', 'one')").rows.equals(whole)
    computed = ask(rich, "FROM best_features((SELECT min(run_id) FROM runs), 'on' || 'e')")
    assert computed.rows.equals(whole)
    with pytest.raises(UnknownNameError, match="in SQL a name is given whole: sae := 'one'"):
        ask(rich, f"FROM best_features('{rich_run}', 'on')")
    with pytest.raises(QueryError, match="CREATE is not run here"):
        ask(rich, "CREATE TABLE x AS FROM best_features('nope', 'nope')")
    with pytest.raises(QueryError, match="syntax error"):
        ask(rich, "SELECT FROM best_features('nope'")


def test_a_statement_that_is_nested_too_deeply_is_an_error_with_names_too(rich: Store) -> None:
    with pytest.raises(QueryError, match="more than 500 brackets in brackets"):
        ask(rich, f"SELECT {'abs(' * 900}1{')' * 900}")
