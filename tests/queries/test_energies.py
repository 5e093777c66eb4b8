"""Energies of texts and tokens, and the layers they settle at, against numpy on the raw tables."""

from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.db.views import fill_views, schema_statements
from energylens.queries.energies import (
    barrier_tokens,
    drop_by_category,
    settling_layers,
    settling_summary,
    text_behaviour,
)


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def test_behaviour_of_texts_and_tokens(rich: Store, rich_run: str) -> None:
    tokens = frame(
        rich,
        "SELECT t.*, text_id, category FROM tokens t JOIN contexts USING (run_id, context_id) JOIN "
        "texts USING (run_id, text_id) ORDER BY token_index",
    )
    valid = tokens.filter(~pl.col("is_masked") & pl.col("energy").is_not_null())
    found = text_behaviour(rich, rich_run)
    assert found["mean_energy"].is_sorted(descending=True) and len(found) == 40
    for row in found.iter_rows(named=True):
        own = valid.filter(pl.col("text_id") == row["text_id"])
        energy = own["energy"].cast(pl.Float64).to_numpy()
        assert row["perplexity"] == pytest.approx(np.exp(energy.mean()), rel=1e-6)
        assert row["mean_confidence"] == pytest.approx(
            own["confidence"].to_numpy().mean(), rel=1e-5
        )
    barriers = barrier_tokens(rich, rich_run, min_z=1.0, k=1000)
    expected = set()
    for _, part in tokens.filter(~pl.col("is_masked")).group_by("context_id"):
        rows = part.sort("pos")
        energy = rows["energy"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        if np.isnan(energy).all():
            continue
        mean, sd = np.nanmean(energy), np.nanstd(energy)
        for i, e in enumerate(energy):
            sides = [energy[j] for j in (i - 1, i + 1) if 0 <= j < len(energy)]
            if e == e and all(not (s >= e) for s in sides) and sd > 0 and (e - mean) / sd >= 1.0:
                expected.add(rows["token_index"][i])
    assert set(barriers["token_index"]) == expected and len(expected) > 10


def test_settling_is_the_last_change_of_the_top_token(rich: Store, rich_run: str) -> None:
    lens = frame(rich, "SELECT token_index, layer, top_vocab_id FROM energies ORDER BY 1, 2")
    expected: dict[Any, int] = {}
    for (token,), part in lens.group_by("token_index"):
        tops = part.sort("layer")["top_vocab_id"].to_list()
        layers = part.sort("layer")["layer"].to_list()
        settled = len(tops) - 1
        while settled > 0 and tops[settled - 1] == tops[-1]:
            settled -= 1
        expected[token] = layers[settled]
    found = settling_layers(rich, rich_run, 1)
    assert found["settling_layer"].to_list() == [expected[t] for t in found["token_index"]]
    whole = settling_summary(rich, rich_run).filter(pl.col("is_all"))
    kept = frame(
        rich, "SELECT token_index FROM tokens WHERE NOT is_masked AND energy IS NOT NULL"
    )["token_index"]  # fmt: skip
    counts = np.unique([expected[t] for t in kept], return_counts=True)
    by_layer = dict(zip(*(c.tolist() for c in counts), strict=True))
    assert dict(zip(whole["settling_layer"], whole["n_tokens"], strict=True)) == by_layer
    assert whole["share"].sum() == pytest.approx(1.0)


def test_the_drop_is_the_energy_less_that_of_the_output(rich: Store, rich_run: str) -> None:
    rows = frame(
        rich,
        'SELECT e.layer, e.energy, e."drop", e.entropy, t.energy AS output, t.is_masked, category '
        "FROM energies AS e JOIN tokens AS t USING (run_id, token_index) "
        "JOIN contexts USING (run_id, context_id) JOIN texts USING (run_id, text_id)",
    ).cast(dict.fromkeys(("energy", "drop", "output"), pl.Float64))
    told = rows.filter(pl.col("energy").is_not_null())
    expected = (told["energy"] - told["output"]).to_numpy()
    np.testing.assert_allclose(told["drop"].to_numpy(), expected, atol=2e-5)
    assert rows.filter(pl.col("energy").is_null())["drop"].null_count() == len(rows) - len(told)
    assert set(told.filter(pl.col("layer") == told["layer"].max())["drop"]) == {0.0}
    counted = told.filter(~pl.col("is_masked"))
    found = drop_by_category(rich, rich_run)
    for row in found.iter_rows(named=True):
        own = counted.filter(pl.col("layer") == row["layer"])
        if not row["is_all"]:
            own = own.filter(pl.col("category").eq_missing(row["category"]))
        drop = (own["energy"] - own["output"]).to_numpy()
        assert row["n_tokens"] == len(own)
        assert row["mean_drop"] == pytest.approx(drop.mean(), abs=1e-5)
        assert row["worse_rate"] == pytest.approx((own["drop"] < 0).mean())
        if drop.any():
            assert row["r_energy"] == pytest.approx(
                np.corrcoef(drop, own["output"])[0, 1], abs=1e-4
            )
            r = np.corrcoef(drop, own["entropy"].cast(pl.Float64))[0, 1]
            assert row["r_entropy"] == pytest.approx(r, abs=1e-4)
    assert found["is_all"].sum() == 3 and len(found) == 3 * 4


def test_a_drop_that_nobody_asks_for_costs_nothing(rich: Store, rich_run: str) -> None:
    def plan(column: str, rest: str) -> str:
        sql = f"EXPLAIN SELECT avg({column}) FROM energies {rest}"
        return rich.cursor().execute(sql).fetchall()[0][1]

    for rest in ("", "WHERE token_index < 9", "GROUP BY layer", f"WHERE run_id = '{rich_run}'"):
        plain, asked = plan("energy", rest), plan('"drop"', rest)
        assert "Window" not in plain and "Join" not in plain and "Window" in asked


def test_without_the_last_layer_there_is_no_drop(rich: Store) -> None:
    info = rich.infos[0]
    fewer = replace(info, lens_layers=info.lens_layers[:-1])
    con = duckdb.connect()
    for statement in schema_statements():
        con.execute(statement)
    fill_views(con, StoreLayout(rich.path), [(StoreLayout(rich.path).run(info.run_id), fewer)])
    told = 'SELECT count("drop"), count(energy) FROM energies'
    assert con.execute(told).fetchall()[0][0] == 0 < con.execute(told).fetchall()[0][1]
