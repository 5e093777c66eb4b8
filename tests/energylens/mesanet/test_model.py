"""The MesaNet as a model: causal, indifferent to padding, the same with and without its cache."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from energylens.errors import ModelError
from energylens.mesanet.anchors import balance_losses
from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.features import FeatureRows
from energylens.mesanet.mixers import AttentionMixer, LogLinearMixer, MesaMixer
from energylens.mesanet.model import MesaNetForCausalLM

VARIANTS = [
    {"mixer": "mesa"},
    {"mixer": "attention"},
    {"mixer": "log-linear"},
    {"mixer": "log-linear", "max_position_embeddings": 5},
    {"energy": "none"},
    {"energy": "entropy"},
    {"energy": "shuffled"},
    {"energy": "previous"},
    {"energy": "previous shuffled"},
    {"router": "random"},
    {"router": "hash"},
    {"router": "dense"},
    {"budget": "by_energy"},
    {"budget": "by_drop", "exits": True},
    {"budget": "by_shuffled_drop", "exits": True},
    {"energy_first_layer": 1},
    {"router_features": 4, "router_features_layer": 1},
    {"router_features": 4, "router_features_layer": 0, "mixer": "attention"},
    {"router_features": 4, "router_features_layer": 1, "router_features_shuffled": True},
]


def reads_another_text(changes: dict[str, Any]) -> bool:
    words = f"{changes.get('energy')} {changes.get('budget')}"
    return "shuffled" in words or "router_features_shuffled" in changes


def show_something(features: Any) -> None:
    """Features that are active on about every third token, and count."""
    generator = torch.Generator().manual_seed(2)
    n, width = features.encoder.shape
    rows = FeatureRows(
        torch.randn(n, width, generator=generator),
        torch.full((n,), -0.5),
        torch.full((n,), 0.3),
        torch.full((n,), 2.0),
    )
    features.take(rows)
    features.weight.copy_(torch.randn(features.weight.shape, generator=generator) * 3)


def make(seed: int = 0, /, **changes: Any) -> Any:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "n_anchors": 5, "anchor_width": 6, "anchor_key_size": 8, "shared_width": 12,
        "chunk_size": 4, "max_position_embeddings": 32, "solver_tolerance": 0.0,
        "solver_steps": 24,
    }  # fmt: skip
    model = MesaNetForCausalLM(MesaNetConfig(**(settings | changes))).eval()
    with torch.no_grad():  # an energy that counts, so that a leak through it would show
        for block in model.blocks:
            anchors: Any = block.anchors
            anchors.energy_weights.normal_(std=3.0)
            anchors.balance.normal_(std=0.1)
            if anchors.features is not None:
                show_something(anchors.features)
        if model.exit_heads is not None:  # drops by which tokens differ
            model.exit_heads.weight.normal_(std=0.3)
            model.exit_heads.bias.fill_(3.0)
    return model


IDS = torch.randint(1, 60, (3, 14), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_a_changed_token_changes_nothing_before_it(changes: dict[str, Any]) -> None:
    model = make(**changes)
    other = IDS.clone()
    other[:, 9] = 60 - other[:, 9]
    one, two = (model(ids, output_hidden_states=True) for ids in (IDS, other))
    assert torch.equal(one.logits[:, :9], two.logits[:, :9])
    assert not torch.allclose(one.logits[:, 9:], two.logits[:, 9:])
    for mine, its in zip(one.routing, two.routing, strict=True):
        assert torch.equal(mine.logits[:, :9], its.logits[:, :9])
        assert torch.equal(mine.predicted_energy[:, :9], its.predicted_energy[:, :9])
        if mine.seen_energy is not None:
            assert torch.equal(mine.seen_energy[:, :9], its.seen_energy[:, :9])


@pytest.mark.parametrize(("changes", "side"), product(VARIANTS, ["left", "right"]))
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(changes: dict[str, Any], side: str) -> None:
    if reads_another_text(changes):
        pytest.skip("it reads another text by design")
    model = make(**changes)
    alone = model(IDS[:1, :9]).logits
    pad = torch.zeros(1, 5, dtype=torch.long)
    parts = (pad, IDS[:1, :9]) if side == "left" else (IDS[:1, :9], pad)
    real = [torch.zeros(1, 5), torch.ones(1, 9)]
    mask = torch.cat(real if side == "left" else real[::-1], dim=1).long()
    ids = torch.cat([torch.cat(parts, dim=1), IDS[1:2]])
    found = model(ids, attention_mask=torch.cat([mask, torch.ones(1, 14).long()])).logits[0]
    kept = found[5:] if side == "left" else found[:9]
    torch.testing.assert_close(kept, alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_the_cache_gives_what_the_whole_text_gives(changes: dict[str, Any]) -> None:
    if reads_another_text(changes):
        pytest.skip("it reads another text by design")
    model = make(**changes)
    whole = model(IDS).logits
    first = model(IDS[:, :6], use_cache=True)
    logits, cache = [first.logits], first.past_key_values
    for t in range(6, 10):
        out = model(IDS[:, t : t + 1], past_key_values=cache, use_cache=True)
        logits.append(out.logits)
        cache = out.past_key_values
    logits.append(model(IDS[:, 10:], past_key_values=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), whole, rtol=1e-4, atol=1e-5)
    assert cache.get_seq_length() == 14


@pytest.mark.parametrize("mixer", ["mesa", "attention", "log-linear"])
@torch.no_grad()
def test_generation_in_a_padded_batch_is_that_of_each_text(mixer: str) -> None:
    model = make(mixer=mixer)
    texts = [IDS[0, :8], IDS[1, :5]]
    alone = []
    for text in texts:
        ids = text[None]
        for _ in range(6):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        alone.append(ids[0, len(text) :])
    batch = torch.stack([texts[0], torch.cat([torch.zeros(3, dtype=torch.long), texts[1]])])
    mask = torch.tensor([[1] * 8, [0] * 3 + [1] * 5])
    found = model.generate(
        batch, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    assert torch.equal(found[:, 8:], torch.stack(alone))
    beams = model.generate(IDS[:1, :5], max_new_tokens=4, num_beams=3, eos_token_id=None)
    assert beams.shape == (1, 9)


@torch.no_grad()
def test_it_is_saved_and_found_by_name(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again, MesaNetForCausalLM)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert again.lm_head.weight is again.embed.weight
    names = sorted(path.suffix for path in tmp_path.iterdir())
    assert ".bin" not in names and ".safetensors" in names


@torch.no_grad()
def test_hidden_states_lead_from_embedding_to_logits() -> None:
    model = make()
    out = model(IDS, output_hidden_states=True)
    assert len(out.hidden_states) == 3
    torch.testing.assert_close(out.hidden_states[0], model.embed(IDS) * 16.0)
    torch.testing.assert_close(model.lm_head(model.ln_final(out.hidden_states[-1])), out.logits)
    loss = model(IDS, labels=IDS).loss
    expected = torch.nn.functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()
    )
    torch.testing.assert_close(loss, expected)


@torch.no_grad()
def test_masked_products_are_the_experts_one_by_one() -> None:
    model = make()
    anchors: Any = model.blocks[0].anchors
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1))
    ids = torch.ones(2, 5, dtype=torch.long)
    written, routing = anchors(x, ids, ids, None)
    width, silu = 6, torch.nn.functional.silu
    expected = torch.zeros_like(x)
    p = routing.logits.softmax(-1)
    for b, t in product(range(2), range(5)):
        chosen = (routing.logits[b, t] + anchors.balance).topk(2).indices
        weights = p[b, t, chosen] / p[b, t, chosen].sum()
        torch.testing.assert_close(routing.weights[b, t], weights)
        for k, w in zip(chosen.tolist(), weights, strict=True):
            rows = slice(k * width, (k + 1) * width)
            hidden = silu(anchors.gate.weight[rows] @ x[b, t]) * (anchors.up.weight[rows] @ x[b, t])
            expected[b, t] += 2 * w * (anchors.down.weight[:, rows] @ hidden)
    torch.testing.assert_close(routing.write, expected, rtol=1e-4, atol=1e-6)
    shared = anchors.shared_down(silu(anchors.shared_gate(x)) * anchors.shared_up(x))
    torch.testing.assert_close(written, expected + shared, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_balancing_raises_what_is_rarely_chosen() -> None:
    anchors: Any = make().blocks[0].anchors
    anchors.balance.zero_()
    ids = torch.zeros(1, 3, dtype=torch.long)
    routing = anchors(torch.randn(1, 3, 24), ids, ids, None)[1]
    choices = torch.tensor([[[0, 1], [0, 2], [0, 1]]])
    anchors.rebalance(replace(routing, choices=choices), 0.5)
    assert anchors.balance.tolist() == [-0.5, -0.5, 0.5, 0.5, 0.5]


def test_balance_losses_are_the_entropies_they_are_named_for() -> None:
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    within, marginal, z = balance_losses(logits)
    assert within < 0.01 and marginal == pytest.approx(0.6931, abs=1e-3)
    assert z == pytest.approx(81.0, rel=1e-2)


def test_hashed_routers_spread_their_tokens_and_look_only_where_they_may() -> None:
    for router in ("hash", "random"):
        model = make(router=router)
        with torch.no_grad():
            same = model(torch.full((1, 32), 7))
        first = same.routing[0].choices[0, :, 0]
        assert (len(first.unique()) == 1) == (router == "hash")
        with torch.no_grad():
            many = model(torch.arange(1, 60).repeat(2)[None, :32])
        load = torch.bincount(many.routing[0].choices.flatten(), minlength=5)
        assert load.min() > 0


def test_energy_guides_only_where_it_may() -> None:
    seen = make(energy="predicted")(IDS).routing[0].seen_energy
    assert seen is not None and not seen.requires_grad
    for changes in ({"energy": "none"}, {"router": "hash"}, {"router": "dense"}):
        assert make(**changes)(IDS).routing[0].seen_energy is None
    entropy = make(energy="entropy")(IDS).routing[0].seen_energy
    assert entropy is not None and (entropy >= 0).all() and (entropy <= 4.1).all()
    shuffled = make(energy="shuffled")(IDS).routing[0]
    assert torch.equal(shuffled.seen_energy[1], shuffled.predicted_energy[0])  # pyright: ignore


@torch.no_grad()
def test_a_token_is_told_the_energy_it_had_one_place_before() -> None:
    model = make(energy="previous")
    middle: list[torch.Tensor] = []
    model.blocks[1].hook_resid_mid.register_forward_hook(lambda _, __, x: middle.append(x))
    seen = model(IDS).routing[1].seen_energy
    logits = model.lm_head(model.ln_final(middle[0][:, :-1])).log_softmax(-1)
    expected = -logits.gather(-1, IDS[:, 1:, None])[..., 0]
    torch.testing.assert_close(seen[:, 1:], expected)
    torch.testing.assert_close(seen[:, 0], torch.full((3,), math.log(60.0)))
    told = make(energy="previous shuffled")(IDS).routing[0].seen_energy
    torch.testing.assert_close(told, make(energy="previous")(IDS).routing[0].seen_energy.roll(1, 0))


@torch.no_grad()
def test_the_head_of_the_drop_decides_how_many_anchors_a_token_gets() -> None:
    model = make(budget="by_drop", exits=True)
    out = model(IDS, output_hidden_states=True)
    assert out.routing[0].decided_by is None and (out.routing[0].weights > 0).sum(-1).eq(2).all()
    foretold = model.exit_heads(0, out.hidden_states[1].flatten(0, 1))[:, 0].view(IDS.shape)
    torch.testing.assert_close(out.routing[1].decided_by, foretold)
    n = (out.routing[1].weights > 0).sum(-1)
    assert n.unique().tolist() == [1, 2, 3]
    assert torch.equal(n, 1 + (foretold > 2.5).long() + (foretold > 3.5).long())
    with pytest.raises(ModelError, match="set exits"):
        make(budget="by_drop")


def test_the_energy_head_gives_no_gradient_to_the_model() -> None:
    model = make()
    out = model(IDS)
    torch.stack([r.predicted_energy.sum() for r in out.routing]).sum().backward()
    assert model.embed.weight.grad is None
    head: Any = model.blocks[0].anchors
    assert head.energy_head[0].weight.grad is not None


def test_the_solver_stops_earlier_where_it_may() -> None:
    loose = make(solver_tolerance=1e-1)
    with torch.no_grad():
        steps = loose(IDS).solver_steps
    assert len(steps) == 2 and steps[0].shape == IDS.shape and steps[0].max() < 24
    assert make(mixer="attention")(IDS).solver_steps == ()


def test_mixers_are_what_the_config_says() -> None:
    assert isinstance(make().blocks[0].mixer, MesaMixer)
    assert isinstance(make(mixer="attention").blocks[0].mixer, AttentionMixer)
    assert isinstance(make(mixer="log-linear").blocks[0].mixer, LogLinearMixer)
