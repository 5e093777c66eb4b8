"""Tokens that stop early: where, by what, and that nothing else changes."""

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from energylens.errors import ModelError
from energylens.mesanet.calibration import (
    Batch,
    by_shares,
    calibrate,
    early_energy,
    fixed_shares,
    mean_depth,
    shares_of,
    tell,
    whole_pass,
)
from energylens.mesanet.exits import TOLD, ExitPolicy, Rule, told_scores
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.training.loop import Watch
from energylens.training.mesanet import build, train, training_loss
from tests.energylens.mesanet.test_model import IDS, make
from tests.energylens.mesanet.test_training import CONFIG
from tests.energylens.mesanet.test_training import IDS as ROW

OWN: tuple[Rule, ...] = ("fixed depth", "random", "entropy", "predicted energy", "predicted drop")
MIXERS = ["mesa", "attention", "log-linear"]
VARIANTS = list(product(MIXERS, ["frozen", "skipped"]))
TOLD_OF = [
    {},
    {"energy": "previous"},
    {"budget": "by_drop"},
    {"router_features": 4, "router_features_layer": 2},
]
"""What else a router may be told of, that a pass with exits has to work out."""


def with_exits(**changes: Any) -> Any:
    """A model of four blocks whose heads say something."""
    model = make(num_hidden_layers=4, exits=True, exit_energy=True, **changes)
    generator = torch.Generator().manual_seed(1)
    for weights in model.exit_heads.parameters():
        weights.data = torch.randn(weights.shape, generator=generator) / 3
    return model


def halves(model: Any, rule: Rule, states: Any) -> ExitPolicy:
    """A third of those still going stops after each block."""
    batch = Batch(IDS, torch.ones_like(IDS, dtype=torch.bool))
    return by_shares(model, [batch], rule, (1 / 3,) * 3, states)


@pytest.mark.parametrize(("mixer", "states"), VARIANTS)
@torch.no_grad()
def test_thresholds_without_end_give_the_whole_model_and_one_block(mixer: str, states: Any) -> None:
    model = with_exits(mixer=mixer)
    whole = model(IDS, output_hidden_states=True)
    for rule in OWN:
        none = model(IDS, exits=ExitPolicy(rule, (-math.inf,) * 3, states))
        torch.testing.assert_close(none.logits, whole.logits, rtol=1e-4, atol=1e-5)
        assert (none.depths == 4).all()
        all_ = model(IDS, exits=ExitPolicy(rule, (math.inf,) * 3, states))
        assert (all_.depths == 1).all()
        first = model.lm_head(model.ln_final(whole.hidden_states[1]))
        torch.testing.assert_close(all_.logits, first, rtol=1e-4, atol=1e-5)


def dense_pass(model: Any, ids: torch.Tensor, depths: torch.Tensor) -> torch.Tensor:
    """Logits of stopped tokens' frozen streams, every block computed for every token."""
    came: dict[int, torch.Tensor] = {}
    handles = []
    for layer, block in enumerate(model.blocks):

        def come(_: Any, args: Any, layer: int = layer) -> None:
            came[layer] = args[0]

        def keep(_: Any, __: Any, x: Any, layer: int = layer) -> Any:
            goes_on = (depths > layer)[..., None]
            if isinstance(x, tuple):
                return torch.where(goes_on, x[0], came[layer]), *x[1:]
            return torch.where(goes_on, x, came[layer])

        handles.append(block.register_forward_pre_hook(come))
        handles.append(block.hook_resid_mid.register_forward_hook(keep))
        handles.append(block.register_forward_hook(keep))
    logits = model(ids).logits
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize(("mixer", "told"), product(MIXERS, TOLD_OF))
@torch.no_grad()
def test_frozen_states_are_those_of_a_pass_that_computes_every_token(
    mixer: str, told: dict[str, Any]
) -> None:
    model = with_exits(mixer=mixer, **told)
    out = model(IDS, exits=halves(model, "predicted drop", "frozen"))
    assert set(out.depths.flatten().tolist()) == {1, 2, 3, 4}
    dense = dense_pass(model, IDS, out.depths)
    torch.testing.assert_close(out.logits, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_a_skipped_token_leaves_later_blocks_as_if_it_were_padding(mixer: str) -> None:
    model = with_exits(mixer=mixer)
    frozen, skipped = (halves(model, "predicted drop", s) for s in ("frozen", "skipped"))
    skipped = replace(skipped, thresholds=(frozen.thresholds[0], -math.inf, -math.inf))
    out = model(IDS, exits=skipped)
    stays = out.depths == 4
    first = model(IDS, output_hidden_states=True).hidden_states[1]
    x, step = first, model._step(IDS, torch.ones_like(IDS), model_cache(model))
    step = replace(step, mask=stays, seen=stays)
    for block, store in zip(model.blocks[1:], model_cache(model).layers[1:], strict=True):
        if mixer == "attention":  # places are those of the whole text
            store.heard = torch.zeros(len(IDS), 0, dtype=torch.bool)
            heard = block.mixer.at(block.mixer_norm(x), stays, stays, store, step.place)
            x = x.clone()
            x[stays] += heard
        elif mixer == "mesa":
            x = x + block.mixer(block.mixer_norm(x), stays, store)[0]
        else:
            x = x + block.mixer(block.mixer_norm(x), stays, store, step.place)
        x = x + block.anchors(block.mlp_norm(x), IDS, step.place, None)[0]
    logits = model.lm_head(model.ln_final(torch.where(stays[..., None], x, first)))
    torch.testing.assert_close(out.logits, logits, rtol=1e-4, atol=1e-5)


def model_cache(model: Any) -> Any:
    return model(IDS[:, :1], use_cache=True).past_key_values.__class__(
        [type(layer)() for layer in model(IDS[:, :1], use_cache=True).past_key_values.layers]
    )


@pytest.mark.parametrize(
    ("changes", "states"),
    [({"mixer": m}, s) for m, s in VARIANTS] + [(t, "frozen") for t in TOLD_OF[1:]],
)
@torch.no_grad()
def test_token_by_token_is_the_batched_pass_and_so_is_generation(
    changes: dict[str, Any], states: Any
) -> None:
    model = with_exits(**changes)
    for rule in OWN[1:]:
        policy = halves(model, rule, states)
        whole = model(IDS, exits=policy)
        cache: Any = None
        logits, depths = [], []
        for start, end in [(0, 5), *((t, t + 1) for t in range(5, 11)), (11, 14)]:
            out = model(IDS[:, start:end], past_key_values=cache, use_cache=True, exits=policy)
            cache = out.past_key_values
            logits.append(out.logits)
            depths.append(out.depths)
        assert torch.equal(torch.cat(depths, dim=1), whole.depths) and (whole.depths < 4).any()
        assert torch.equal(cache.depths, whole.depths)
        torch.testing.assert_close(torch.cat(logits, dim=1), whole.logits, rtol=1e-4, atol=1e-5)
    policy = halves(model, "predicted drop", states)
    alone, told = [], {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    for text in (IDS[0, :8], IDS[1, :5]):
        ids = text[None]
        for _ in range(5):
            ids = torch.cat([ids, model(ids, exits=policy).logits[:, -1:].argmax(-1)], dim=1)
        alone.append(ids[0, len(text) :])
    batch = torch.stack([IDS[0, :8], torch.cat([torch.zeros(3, dtype=torch.long), IDS[1, :5]])])
    mask = torch.tensor([[1] * 8, [0] * 3 + [1] * 5])
    found = model.generate(batch, attention_mask=mask, exits=policy, **told)
    assert torch.equal(found[:, 8:], torch.stack(alone))


@pytest.mark.parametrize(("mixer", "states"), VARIANTS)
@torch.no_grad()
def test_neither_later_tokens_nor_padding_change_where_a_token_stops(
    mixer: str, states: Any
) -> None:
    model = with_exits(mixer=mixer)
    other = IDS.clone()
    other[:, 9] = 60 - other[:, 9]
    for rule in OWN[1:]:
        policy = halves(model, rule, states)
        one, two = (model(ids, exits=policy) for ids in (IDS, other))
        assert torch.equal(one.depths[:, :9], two.depths[:, :9])
        torch.testing.assert_close(one.logits[:, :9], two.logits[:, :9], rtol=1e-4, atol=1e-5)
        alone = model(IDS[:1, :9], exits=policy)
        for side in ("left", "right"):
            parts = [torch.zeros(1, 5, dtype=torch.long), IDS[:1, :9]]
            real = [torch.zeros(1, 5), torch.ones(1, 9)]
            if side == "right":
                parts, real = parts[::-1], real[::-1]
            ids = torch.cat([torch.cat(parts, dim=1), IDS[1:2]])
            mask = torch.cat([torch.cat(real, dim=1), torch.ones(1, 14)]).long()
            found = model(ids, attention_mask=mask, exits=policy)
            kept = slice(5, None) if side == "left" else slice(9)
            assert torch.equal(found.depths[0, kept], alone.depths[0])
            assert int(found.depths[0].sum()) == int(alone.depths.sum())
            torch.testing.assert_close(found.logits[0, kept], alone.logits[0], rtol=1e-4, atol=1e-5)


def test_only_tokens_that_go_on_are_computed() -> None:
    model, seen = with_exits(), []
    for block in model.blocks:
        block.anchors.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[1]))
    depths = model(IDS, exits=halves(model, "predicted drop", "frozen")).depths
    assert seen[-4:] == [int((depths > layer).sum()) for layer in range(4)]


@pytest.mark.parametrize("states", ["frozen", "skipped"])
@pytest.mark.parametrize("rule", [*OWN, *TOLD])
def test_calibration_gives_the_mean_depth_that_was_asked_for(rule: Rule, states: Any) -> None:
    model = with_exits()
    generator = torch.Generator().manual_seed(2)
    batches = []
    for n in (20, 12):
        ids = torch.randint(1, 60, (16, n), generator=generator)
        lengths = torch.randint(4, n + 1, (16, 1), generator=generator)
        batches.append(Batch(ids, torch.arange(n) < lengths))
    told = tell(model, batches, rule)
    for depth in (1.0, 2.6):
        policy = calibrate(model, batches, rule, depth, states)
        found = mean_depth(model, told, policy)
        assert found == pytest.approx(depth, abs=0.25 if rule == "drop shuffled" else 0.03)
    policy = by_shares(model, batches, rule, (0.5, 0.0, 0.5), states)
    depths = torch.cat([early_energy(model, batch, policy)[1][batch.mask] for batch in told])
    assert shares_of(depths, 4) == pytest.approx((0.5, 0.0, 0.5), abs=0.02)


def test_shares_of_a_fixed_depth() -> None:
    assert fixed_shares(4, 2.0) == (0.0, 1.0, 1.0)
    assert fixed_shares(4, 2.25) == (0.0, 0.75, 1.0)
    assert fixed_shares(4, 4.0) == (0.0, 0.0, 0.0)


@torch.no_grad()
def test_what_stopping_costs_is_the_loss_of_each_read_out_less_the_last() -> None:
    model = with_exits()
    mask = torch.ones_like(IDS, dtype=torch.bool)
    mask[0, 10:] = False
    whole = whole_pass(model, Batch(IDS, mask))
    states = model(IDS, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    for row, pos in ((0, 8), (2, 3)):
        energies = [
            float(torch.nn.functional.cross_entropy(
                model.lm_head(model.ln_final(x[row, pos])), IDS[row, pos + 1]
            ))
            for x in states[1:]
        ]  # fmt: skip
        assert float(whole.energy[row, pos]) == pytest.approx(energies[-1], rel=1e-4)
        expected = [energy - energies[-1] for energy in energies[:-1]]
        assert whole.drop[:, row, pos].tolist() == pytest.approx(expected, abs=1e-4)
    assert whole.drop[:, 0, 9:].isnan().all() and whole.drop[:, :, 13].isnan().all()
    told = told_scores("previous drop", whole.drop, whole.foretold)
    assert torch.equal(told[:, 2, 4], whole.drop[:, 2, 3])
    dealt = told_scores("drop shuffled", whole.drop, whole.foretold)
    assert torch.equal(dealt[:, mask].sort(-1).values, whole.foretold[:, mask].sort(-1).values)
    assert not torch.equal(dealt[:, mask], whole.foretold[:, mask])
    oracle = told_scores("oracle", whole.drop, whole.foretold)
    known = ~whole.drop[0].isnan()
    assert torch.equal(oracle[:, known], whole.drop[:, known])
    assert torch.equal(oracle[:, 0, 13], whole.drop[:, known].median(1).values)


EXITS = replace(CONFIG, model=CONFIG.model | {"exits": True, "exit_energy": True})


def test_a_model_without_exits_is_what_it_was(tmp_path: Path) -> None:
    plain, leaving = build(CONFIG), build(EXITS)
    held = dict(leaving.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(held.pop(name), value)
    assert sorted(held) == ["exit_heads.bias", "exit_heads.weight"]
    windows = torch.from_numpy(ROW[:64]).view(4, 16).long()
    assert torch.equal(plain(windows).logits, leaving(windows).logits)
    plain.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    before = {name: value for name, value in told.items() if not name.startswith("exit")}
    (tmp_path / "config.json").write_text(json.dumps(before))
    old: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert old.exit_heads is None and torch.equal(old(windows).logits, plain.eval()(windows).logits)


def test_heads_pass_no_gradient_on_and_the_read_outs_do() -> None:
    windows = torch.from_numpy(ROW[:64]).view(4, 16).long()

    def gradients(head_weight: float, exit_weight: float) -> dict[str, torch.Tensor]:
        model: Any = build(replace(EXITS, model=EXITS.model | {"exit_weight": exit_weight}))
        for weights in model.exit_heads.parameters():  # heads that say nothing pass nothing on
            weights.data.fill_(0.3)
        training_loss(model, windows, replace(EXITS, energy_weight=head_weight))[0].backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    without, with_heads, heavier = gradients(0.0, 0.2), gradients(1.0, 0.2), gradients(0.0, 0.3)
    for name in without:
        if "energy_head" not in name and "exit_heads" not in name:
            torch.testing.assert_close(without[name], with_heads[name])
    assert with_heads["exit_heads.weight"].abs().sum() > 0
    assert not torch.allclose(heavier["embed.weight"], without["embed.weight"])


QUIET: Watch[MesaNetForCausalLM] = Watch(lambda progress: None)


def test_heads_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    config = replace(EXITS, n_tokens=16 * 8 * 12)

    class StoppedError(Exception):
        pass

    def stop(progress: object) -> None:
        raise StoppedError

    whole = train(config, ROW, tmp_path / "a", QUIET)
    with pytest.raises(StoppedError):
        train(config, ROW, tmp_path / "b", Watch(stop, report_every=6, save_every=3))
    again = train(config, ROW, tmp_path / "b", QUIET)
    assert whole.exit_heads is not None and again.exit_heads is not None
    torch.testing.assert_close(again.exit_heads.weight, whole.exit_heads.weight)


def test_heads_learn_the_drop_and_are_kept(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    steps = np.where(np.arange(8000) // 50 % 2, 7, generator.choice([1, 7, 11], 8000))
    row = (np.cumsum(steps) % 39).astype(np.int32)
    whole = train(replace(EXITS, n_tokens=16 * 8 * 80), row, tmp_path / "a", QUIET)
    ids = torch.from_numpy(row[:1600]).view(100, 16).long()
    seen = whole_pass(whole, Batch(ids, torch.ones_like(ids, dtype=torch.bool)))
    known = ~seen.drop[0].isnan()
    drop, foretold = seen.drop[0][known], seen.foretold[0][known]
    assert float(torch.corrcoef(torch.stack([foretold, drop]))[0, 1]) > 0.1
    assert float((foretold - drop).square().mean()) < float(drop.square().mean())
    whole.save_pretrained(tmp_path / "kept")
    kept: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    policy = ExitPolicy("predicted drop", (float(foretold.median()),))
    one, two = (model(ids, exits=policy) for model in (whole, kept))
    assert torch.equal(one.depths, two.depths) and torch.equal(one.logits, two.logits)
    assert set(one.depths.flatten().tolist()) == {1, 2}


def test_a_model_that_had_no_exits_can_be_given_some() -> None:
    model: Any = build(CONFIG)
    before = model(IDS % 40).logits
    model.add_exits(energy=False, weight=0.1)
    assert torch.equal(model(IDS % 40).logits, before)
    assert model.exit_heads.weight.shape == (1, 1, 24) and model.config.exit_weight == 0.1


def test_a_policy_a_model_cannot_follow_is_refused() -> None:
    model = make(num_hidden_layers=4)
    cases = [
        (ExitPolicy("entropy", (0.0,)), "1 thresholds and the model 4"),
        (ExitPolicy("predicted drop", (0.0,) * 3), "train it with --exits"),
        (ExitPolicy("predicted energy", (0.0,) * 3), "--exits --exit-energy"),
        (ExitPolicy("oracle", (0.0,) * 3), "`told`"),
    ]
    for policy, said in cases:
        with pytest.raises(ModelError, match=said):
            model(IDS, exits=policy)
    with pytest.raises(ModelError, match="another text"):
        make(energy="shuffled")(IDS, exits=ExitPolicy("random", (0.0,)))
    shuffled = {"router_features": 4, "router_features_layer": 1, "router_features_shuffled": True}
    with pytest.raises(ModelError, match="features of its own text"):
        make(**shuffled)(IDS, exits=ExitPolicy("random", (0.0,)))
    with pytest.raises(ModelError, match="mean depth of 9"):
        calibrate(model, [], "entropy", 9.0)
