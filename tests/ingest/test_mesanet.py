"""A MesaNet through the ingest, like any other model, with what only its routers say."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from energylens.db.store import Store
from energylens.db.verify import verify_store
from energylens.errors import ModelError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.routing_effects import measure_routing
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.lens.gradients import model_gradients
from energylens.lens.models import LanguageModel, load_model, run_hooks
from energylens.lens.routers import find_routers
from energylens.queries.catalog import open_catalog
from energylens.queries.routing import (
    anchor_effects,
    anchor_load,
    anchor_specialization,
    anchor_tokens,
    routing_health,
    routing_report,
)
from tests.conftest import VOCAB, make_mesanet, make_sae, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, mesanet_dir: Path, texts_dir: Path) -> Path:
    root = tmp_path_factory.mktemp("mesanet")
    for name, hook in (
        ("resid", "blocks.1.hook_resid_post"),
        ("mixer", "blocks.1.hook_mixer_out"),
        ("mlp", "blocks.2.hook_mlp_out"),
    ):
        make_sae("standard", hook, d_sae=48).save_model(root / "saes" / name)
    config = IngestConfig(
        model=str(mesanet_dir), texts=str(texts_dir), saes=(str(root / "saes"),), accept_gate=True,
        efas=("lens", "total", "calibration"),
    )  # fmt: skip
    make_store(root / "mesanet.lens", config)
    return root / "mesanet.lens"


@pytest.fixture
def store(path: Path) -> Any:
    with open_catalog(path) as opened:
        yield opened


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def test_hooks_have_the_fields_names_and_values(mesanet: LanguageModel) -> None:
    ids = torch.randint(1, VOCAB, (2, 9))
    names = [f"blocks.1.hook_{n}" for n in ("resid_pre", "mixer_out", "resid_mid", "mlp_out")]
    logits, cache = run_hooks(
        mesanet, ids, torch.ones_like(ids), [*names, "blocks.1.hook_resid_post"]
    )
    with torch.no_grad():
        out = mesanet.hf_model(ids, output_hidden_states=True)
    torch.testing.assert_close(logits, out.logits)
    pre, mixer, mid, mlp = (cache[name] for name in names)
    torch.testing.assert_close(pre, out.hidden_states[1])
    torch.testing.assert_close(mid, pre + mixer)
    torch.testing.assert_close(cache["blocks.1.hook_resid_post"], mid + mlp)
    torch.testing.assert_close(cache["blocks.1.hook_resid_post"], out.hidden_states[2])
    stopped, _ = run_hooks(mesanet, ids, torch.ones_like(ids), names[:1], stop_at_layer=2)
    assert stopped is None
    with pytest.raises(ModelError, match=r"did you mean .*hook_mixer_out"):
        mesanet.check_hook("blocks.1.hook_mixer_outs")


def test_an_intervention_at_a_hook_reaches_the_logits(mesanet: LanguageModel) -> None:
    ids = torch.randint(1, VOCAB, (1, 6))
    plain = mesanet.bridge.run_with_hooks(ids)
    changed = mesanet.bridge.run_with_hooks(
        ids, fwd_hooks=[("blocks.0.hook_mlp_out", lambda value, hook: value * 0)]
    )
    again = mesanet.bridge.run_with_hooks(ids)
    assert torch.equal(plain, again) and (plain - changed).abs().max() > 1e-3


def test_the_store_is_sound_and_has_energies_of_every_layer(path: Path, store: Store) -> None:
    assert verify_store(path) == []
    layers = frame(store, "SELECT layer, avg(energy) AS e FROM energies GROUP BY 1 ORDER BY 1")
    assert layers["layer"].to_list() == [-1, 0, 1, 2] and layers["e"].null_count() == 0
    streams = frame(store, "SELECT sae_id, stream FROM saes ORDER BY 1")["stream"].to_list()
    assert streams == ["attention", "mlp", "residual"]
    found = frame(
        store,
        "SELECT s.sae_id, s.layer, list_sort(list(DISTINCT e.variant)) AS variants "
        "FROM saes AS s JOIN efas AS e USING (run_id, sae_id) GROUP BY ALL",
    )
    every = {"lens", "total", "calibration", "energy", "position"}
    for row in found.iter_rows(named=True):
        worth = {"drop"} if row["layer"] < 2 else set()  # after the last block comes nothing
        assert set(row["variants"]) == every | worth
    assert len(found) == 3


def test_routing_records_are_what_the_model_did(store: Store, mesanet: LanguageModel) -> None:
    tokens = frame(store, "SELECT * FROM tokens WHERE context_id = 0 ORDER BY token_index")
    with torch.no_grad():
        out = mesanet.hf_model(torch.tensor([tokens["vocab_id"].to_list()]))
    for layer in range(3):
        routing = out.routing[layer]
        rows = frame(
            store,
            f"SELECT * FROM routing_tokens WHERE layer = {layer} AND token_index < {len(tokens)} "
            "ORDER BY token_index",
        )
        assert set(rows["router"]) == {f"blocks.{layer}.anchors"}
        np.testing.assert_allclose(
            rows["logits"].to_list(), routing.logits[0], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(rows["seen_energy"], routing.seen_energy[0], rtol=1e-4)
        np.testing.assert_allclose(rows["write_norm"], routing.write[0].norm(dim=-1), rtol=1e-4)
        assert rows["solver_steps"].to_list() == out.solver_steps[layer][0].tolist()
        lens = frame(
            store,
            f"SELECT a.energy AS before, b.energy AS after FROM energies a JOIN energies b USING "
            f"(run_id, token_index) WHERE a.layer = {layer - 1} AND b.layer = {layer} AND "
            f"token_index < {len(tokens)} ORDER BY token_index",
        )
        assert rows["energy_in"].to_list() == lens["before"].to_list()
        assert rows["energy_out"].to_list() == lens["after"].to_list()
        chosen = frame(
            store,
            f"SELECT * FROM routing WHERE layer = {layer} AND token_index < {len(tokens)} "
            "ORDER BY token_index, rank",
        )
        weights = chosen["weight"].to_numpy().reshape(-1, 2)
        assert (weights[:, 0] >= weights[:, 1]).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
        own = chosen["choice_id"].to_numpy().reshape(-1, 2)
        assert (np.sort(own) == np.sort(routing.choices[0].numpy())).all()


def test_routing_queries_answer(store: Store) -> None:
    run = store.runs[0].info.run_id
    health = routing_health(store, run)
    assert health["n_choices"].to_list() == [4] * 3
    assert health["seen_correlation"].null_count() == 0
    loads = anchor_load(store, run, at_layer=1)
    assert loads["load"].sum() == pytest.approx(1.0)


def test_total_gradients_are_autograds(mesanet: LanguageModel) -> None:
    ids = torch.randint(1, VOCAB, (1, 10))
    following = torch.cat([ids[:, 1:], torch.tensor([[5]])], dim=1)
    mask = torch.ones_like(ids, dtype=torch.bool)
    hook = "blocks.0.hook_resid_post"
    found = model_gradients(mesanet, ids, mask, following, [hook], own=False)[hook]
    states = mesanet.hf_model(ids, output_hidden_states=True)
    loss = torch.nn.functional.cross_entropy(states.logits[0], following[0], reduction="sum")
    (expected,) = torch.autograd.grad(loss, states.hidden_states[1])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ModelError, match="leave out --efas own"):
        model_gradients(mesanet, ids, mask, following, [hook], own=True)


def test_a_dense_twin_has_no_routers(save_model: Callable[..., Path]) -> None:
    assert find_routers(load_model(str(save_model(make_mesanet(router="dense"))))) == []


def test_effects_of_routing_are_stored_reported_and_outlive_a_rebuild(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "x.lens"
    shutil.copytree(path, copy)
    with open_catalog(copy) as opened:
        run = opened.runs[0].info.run_id
        assert anchor_effects(opened, run).is_empty()
    found = measure_routing(copy, run, 6, 0, Progress())
    ablations, permutations = found["anchor_ablations"], found["energy_permutations"]
    assert len(ablations) == 3 * 4
    assert permutations["router"].to_list() == ["all", *(f"blocks.{n}.anchors" for n in range(3))]
    n = permutations["n_tokens"][0]
    assert (ablations["n_own"] + ablations["n_others"] == n).all()
    by_layer = ablations.group_by("layer").agg(pl.col("n_own").sum())
    assert by_layer["n_own"].to_list() == [2 * n] * 3, "two anchors a token"
    again = measure_routing(copy, run, 6, 0, Progress())
    for name, rows in found.items():
        assert again[name].equals(rows), name
    build_indexes(copy, Progress(), run)
    assert verify_store(copy) == []
    with open_catalog(copy) as opened:
        kept = anchor_effects(opened, run)
        assert kept.height == 12 and kept["difference"].to_list() == sorted(
            kept["difference"].to_list(), key=lambda x: (x is None, -(x or 0))
        )
        report = routing_report(opened, run)
    assert report["note"].null_count() == 0
    words = {"efficiency", "specialization", "energy", "origin", "energy, permuted"}
    assert words < set(report["word"])


def test_metrics_equal_numpy(store: Store) -> None:
    run = store.runs[0].info.run_id
    report = routing_report(store, run).filter(pl.col("layer") == 1)
    value = dict(zip(report["metric"], report["value"], strict=True))
    health = routing_health(store, run).row(1, named=True)
    assert value["concentration"] == value["routing_efficiency"]
    for ours, theirs in (
        ("concentration", "concentration"), ("routing_information", "routing_information"),
        ("max_vio", "max_vio"), ("load_cv", "load_cv"), ("ceiling", "energy_ceiling"),
        ("omega_squared", "energy_omega_squared"), ("seen_energy", "seen_correlation"),
        ("specialization_strength", "usage_spread"),
        ("spearman_given_frequency_and_position", "energy_correlation"),
    ):  # fmt: skip
        assert value[ours] == pytest.approx(health[theirs], abs=1e-6), ours
    assert value["seen_energy_over_ceiling"] == pytest.approx(
        value["seen_energy"] - value["ceiling"]
    )
    told = anchor_specialization(store, run).filter(pl.col("layer") == 1)
    for label, bits in zip(told["label"], told["adjusted"], strict=True):
        assert value[f"{label}_bits"] == pytest.approx(bits)
    bounded = report.filter(pl.col("low").is_not_null())
    assert ((bounded["low"] <= bounded["value"]) & (bounded["value"] <= bounded["high"])).all()
    tokens = frame(
        store,
        "SELECT q.logits, t.energy, c.text_id FROM routing_tokens q JOIN tokens t "
        "USING (run_id, token_index) JOIN contexts c USING (run_id, context_id) "
        "WHERE q.layer = 1 AND NOT is_masked AND energy IS NOT NULL",
    )
    logits = np.array(tokens["logits"].to_list())
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(axis=1)
    means = (
        tokens.with_columns(pl.Series("p", p)).group_by("text_id").agg(pl.col("energy", "p").mean())
    )
    expected = np.corrcoef(means["energy"], means["p"])[0, 1]
    assert value["energy_routing_correlation"] == pytest.approx(expected, abs=1e-5)


def test_anchors_are_described_by_the_tokens_they_take(store: Store) -> None:
    run = store.runs[0].info.run_id
    rows = anchor_tokens(store, run, at_layer=0, k=3)
    assert rows["share"].sum() <= 1.0 + 1e-9
    first = frame(
        store,
        "SELECT r.choice_id, t.token FROM routing r JOIN tokens t USING (run_id, token_index) "
        "WHERE r.layer = 0 AND r.rank = 0 AND NOT t.is_masked",
    )
    for row in rows.iter_rows(named=True):
        assert len(row["tokens"]) == len(row["share_of_token"]) <= 3
        own = first.filter(pl.col("choice_id") == row["choice_id"])
        assert row["share"] == pytest.approx(len(own) / len(first))
        for token, share in zip(row["tokens"], row["share_of_token"], strict=True):
            n = (own["token"] == token).sum()
            assert n >= 5
            assert share == pytest.approx(n / (first["token"] == token).sum(), abs=0.006)
