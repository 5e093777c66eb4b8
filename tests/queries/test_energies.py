"""Energies of texts and tokens, and the layers they settle at, against numpy on the raw tables."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from energylens.db.store import Store
from energylens.queries.energies import (
    barrier_tokens,
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
