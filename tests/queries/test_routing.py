"""What is asked of routers, against numpy on the raw tables."""

import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
from scipy import stats

from energylens.db.store import Store
from energylens.queries.routing import (
    anchor_load,
    anchor_tokens,
    feature_anchors,
    routing_health,
)


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def test_a_feature_knows_the_choices_it_goes_with(rich: Store, rich_run: str) -> None:
    table = frame(rich, "SELECT * FROM routing_features WHERE sae_id = 'one'")
    wanted = int(table["feature_id"].mode()[0])
    own = table.filter(pl.col("feature_id") == wanted).sort("phi", descending=True)
    found = feature_anchors(rich, rich_run, "one", wanted)
    assert found["phi"].to_list() == own["phi"].to_list()
    assert len(found) == len(own) > 0


def test_anchors_name_the_tokens_that_go_to_them(rich: Store, rich_run: str) -> None:
    firsts = frame(
        rich,
        "SELECT choice_id, token FROM routing AS r JOIN tokens USING (run_id, token_index) "
        "WHERE layer = 1 AND r.rank = 0 AND NOT is_masked",
    )
    pairs = Counter(firsts.iter_rows())
    of_choice, of_token = Counter(firsts["choice_id"]), Counter(firsts["token"])
    found = anchor_tokens(rich, rich_run, at_layer=1, k=3)
    assert found["choice_id"].to_list() == sorted({c for (c, _), n in pairs.items() if n >= 5})
    assert 5 in pairs.values()
    for row in found.iter_rows(named=True):
        choice = row["choice_id"]
        assert row["share"] == pytest.approx(of_choice[choice] / len(firsts))
        gain = {
            token: n * math.log(n * len(firsts) / (of_choice[choice] * of_token[token]))
            for (c, token), n in pairs.items()
            if c == choice and n >= 5
        }
        best = sorted(gain, key=lambda token: (-round(gain[token], 9), token))
        assert row["tokens"] == best[:3]
        shares = [round(pairs[choice, token] / of_token[token], 2) for token in best[:3]]
        assert row["share_of_token"] == pytest.approx(shares)
    whole = anchor_tokens(rich, rich_run, at_layer=1, k=1000)
    named = {(r["choice_id"], t) for r in whole.iter_rows(named=True) for t in r["tokens"]}
    assert named == {pair for pair, n in pairs.items() if n >= 5}


def test_routing_health_equals_numpy(rich: Store, rich_run: str) -> None:
    health = routing_health(rich, rich_run)
    assert health["layer"].to_list() == [0, 1]
    for row in health.iter_rows(named=True):
        rows = frame(
            rich,
            "SELECT logits, r.entropy, t.energy, t.entropy AS h FROM routing_tokens r "
            "JOIN tokens t "
            f"USING (run_id, token_index) WHERE layer = {row['layer']} AND NOT is_masked "
            "ORDER BY token_index",
        )
        logits = np.array(rows["logits"].to_list())
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        chosen = frame(
            rich,
            "SELECT choice_id FROM routing JOIN tokens USING (run_id, token_index) "
            f"WHERE layer = {row['layer']} AND NOT is_masked",
        )["choice_id"].to_numpy()
        load = np.bincount(chosen, minlength=4) / len(chosen)
        assert row["max_vio"] == pytest.approx(load.max() * 4 - 1)
        assert row["load_cv"] == pytest.approx(load.std() / load.mean())
        within, marginal = stats.entropy(p, axis=1).mean(), stats.entropy(p.mean(axis=0))
        assert row["concentration"] == pytest.approx(1 - within / np.log(4), abs=1e-5)
        assert row["balance"] == pytest.approx(marginal / np.log(4), abs=1e-6)
        information = (marginal - within) / np.log(4)
        assert row["routing_information"] == pytest.approx(information, abs=1e-5)
        valid = rows.filter(pl.col("energy").is_not_null())
        ceiling = np.corrcoef(valid["h"], valid["energy"])[0, 1]
        assert row["energy_ceiling"] == pytest.approx(ceiling, abs=1e-6)
        loads = anchor_load(rich, rich_run, at_layer=row["layer"])
        assert loads["load"].sum() == pytest.approx(1.0)
        assert loads["share_first"].sum() == pytest.approx(1.0)
        by_choice = dict(zip(loads["choice_id"], loads["load"], strict=True))
        assert by_choice == pytest.approx({k: v for k, v in enumerate(load) if v})
