"""Interventions on routing, against the same done by hand on the model's modules."""

from typing import Any

import pytest
import torch

from energylens.errors import UsageError
from energylens.lens.batching import batch_of
from energylens.lens.models import LanguageModel
from energylens.lens.rerouting import ablate_anchor, anchor_routers, observe, permute_energy
from energylens.lens.routers import find_routers

CONTEXTS = [([5, 9, 2, 7, 11], [9, 2, 7, 11, 3]), ([8, 4, 6], [4, 6, -1])]


def test_a_plain_pass_gives_the_models_own_energies_and_routes(mesanet: LanguageModel) -> None:
    batch, routers = batch_of(CONTEXTS), find_routers(mesanet)
    found = observe(mesanet, routers, batch)
    expected = []
    with torch.no_grad():
        for ids, following in CONTEXTS:
            logits = mesanet.hf_model(torch.tensor([ids])).logits[0]
            known = [i for i, n in enumerate(following) if n >= 0]
            wanted = torch.tensor([following[i] for i in known])
            expected.append(
                torch.nn.functional.cross_entropy(logits[known], wanted, reduction="none")
            )
    torch.testing.assert_close(found.energy, torch.cat(expected), rtol=1e-4, atol=1e-5)
    for router in routers:
        assert found.choices[router.name].shape == (7, 2)
        torch.testing.assert_close(found.p[router.name].sum(-1), torch.ones(7))


def test_an_ablated_anchor_equals_one_whose_down_weights_are_zero(mesanet: LanguageModel) -> None:
    batch, routers = batch_of(CONTEXTS), find_routers(mesanet)
    plain = observe(mesanet, routers, batch)
    router, choice = routers[1], 2
    found = ablate_anchor(mesanet, routers, batch, plain, router, choice)
    anchors: Any = mesanet.hf_model.blocks[1].anchors
    width, kept = anchors.config.anchor_width, anchors.down.weight.clone()
    with torch.no_grad():
        anchors.down.weight[:, choice * width : (choice + 1) * width] = 0
        by_hand = observe(mesanet, routers, batch).energy - plain.energy
        anchors.down.weight.copy_(kept)
    torch.testing.assert_close(found.energy_change, by_hand, rtol=1e-4, atol=1e-6)
    assert found.used.tolist() == (plain.choices[router.name] == choice).any(-1).tolist()
    assert (found.energy_change != 0).any()
    untouched = observe(mesanet, routers, batch).energy
    assert torch.equal(untouched, plain.energy), "the hook is gone again"


def test_another_energy_moves_a_router_that_uses_it_and_no_other(mesanet: LanguageModel) -> None:
    routers, batch = find_routers(mesanet), batch_of(CONTEXTS)
    anchors: Any = mesanet.hf_model.blocks[0].anchors
    head = anchors.energy_head[2].weight
    kept = anchors.energy_weights.detach().clone(), head.detach().clone()
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            anchors.energy_weights.zero_()
            head.normal_(std=2.0)
        plain = observe(mesanet, routers, batch)
        (one,) = permute_energy(mesanet, routers, batch, plain, routers[:1], seed=0).values()
        assert not one.moved.any() and not one.energy_change.any()
        with torch.no_grad():
            anchors.energy_weights.copy_(
                torch.tensor([[1.0] * 3, [-1.0] * 3, [0.0] * 3, [0.5] * 3])
            )
        plain = observe(mesanet, routers, batch)
        found = permute_energy(mesanet, routers, batch, plain, routers, seed=0)
        again = permute_energy(mesanet, routers, batch, plain, routers, seed=0)
    finally:
        with torch.no_grad():
            anchors.energy_weights.copy_(kept[0])
            head.copy_(kept[1])
    assert set(found) == {r.name for r in routers}
    moved = found[routers[0].name]
    assert moved.total_variation.max() > 0.05 and (moved.total_variation <= 1).all()
    assert moved.energy_change.any()
    assert torch.equal(again[routers[0].name].total_variation, moved.total_variation)


def test_a_model_without_anchors_is_refused(gpt2: LanguageModel) -> None:
    with pytest.raises(UsageError, match="without anchors"):
        anchor_routers(gpt2, find_routers(gpt2))
