"""Features that a router sees: what they add, where, and what they leave alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from energylens.errors import ModelError
from energylens.mesanet.features import FeatureRows
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.training.loop import Watch
from energylens.training.mesanet import build, train
from tests.energylens.mesanet.test_model import IDS, make
from tests.energylens.mesanet.test_training import CONFIG
from tests.energylens.mesanet.test_training import IDS as ROW

QUIET: Watch[MesaNetForCausalLM] = Watch(lambda progress: None)
SHOWN = {"router_features": 4, "router_features_layer": 1}


def rows(n: int = 4, width: int = 24) -> FeatureRows:
    generator = torch.Generator().manual_seed(5)
    encoder = torch.randn(n, width, generator=generator)
    return FeatureRows(encoder, torch.zeros(n), torch.linspace(0, 0.5, n), torch.full((n,), 3.0))


def router_logits(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of block 1, and the stream before it."""
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
    return out.routing[1].logits, out.hidden_states[1]


def test_features_add_their_activations_over_their_scales_to_the_logits() -> None:
    model = make(**SHOWN)
    features: Any = model.blocks[1].anchors.features
    logits, stream = router_logits(model, IDS)
    added = torch.zeros_like(logits)
    for row, pos in ((0, 0), (1, 7), (2, 13)):
        for f in range(4):
            pre = float(features.encoder[f] @ stream[row, pos] + features.bias[f])
            z = pre if pre > float(features.threshold[f]) else 0.0
            added[row, pos] += z / float(features.scale[f]) * features.weight[:, f].detach()
    features.weight.data.zero_()
    without = router_logits(model, IDS)[0]
    for row, pos in ((0, 0), (1, 7), (2, 13)):
        assert added[row, pos].abs().sum() > 0
        torch.testing.assert_close(logits[row, pos], without[row, pos] + added[row, pos])
    assert model.blocks[0].anchors.features is None


@torch.no_grad()
def test_shuffled_shows_those_of_the_text_before_and_none_to_a_text_alone() -> None:
    model, other = make(**SHOWN), make(**SHOWN, router_features_shuffled=True)
    weight = model.blocks[1].anchors.features.weight
    own, _ = router_logits(model, IDS)
    told, _ = router_logits(other, IDS)
    weight.zero_()
    without, _ = router_logits(model, IDS)
    torch.testing.assert_close(told - without, (own - without).roll(1, dims=0))
    assert (own - without).abs().max() > 0.1
    torch.testing.assert_close(router_logits(other, IDS[:1])[0], without[:1])


def test_a_model_without_features_is_what_it_was_and_begins_as_such_when_given_some(
    tmp_path: Path,
) -> None:
    model: Any = build(CONFIG).eval()
    model.save_pretrained(tmp_path)
    assert "router_features" not in (tmp_path / "config.json").read_text()
    assert not [name for name in model.state_dict() if ".features." in name]
    before = model(IDS % 40).logits
    model.add_router_features(1, rows())
    assert torch.equal(model(IDS % 40).logits, before)
    model.add_router_features(0, rows(6))
    assert model.blocks[1].anchors.features is None
    assert model.blocks[0].anchors.features.weight.shape == (4, 6)


def test_they_are_kept_with_the_model_and_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    config = replace(CONFIG, n_tokens=16 * 8 * 12)

    class StoppedError(Exception):
        pass

    def stop(progress: object) -> None:
        raise StoppedError

    def begun() -> MesaNetForCausalLM:
        model = build(CONFIG)
        model.add_router_features(1, rows(), is_shuffled=True)
        return model

    whole: Any = train(config, ROW, tmp_path / "a", QUIET, begin_with=begun())
    with pytest.raises(StoppedError):
        watch: Watch[MesaNetForCausalLM] = Watch(stop, report_every=6, save_every=3)
        train(config, ROW, tmp_path / "b", watch, begin_with=begun())
    again: Any = train(config, ROW, tmp_path / "b", QUIET, begin_with=begun())
    features = whole.blocks[1].anchors.features
    assert features.weight.abs().sum() > 0
    torch.testing.assert_close(again.blocks[1].anchors.features.weight, features.weight)
    assert torch.equal(features.encoder, rows().encoder)  # frozen
    whole.save_pretrained(tmp_path / "kept")
    told = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert (told["router_features"], told["router_features_layer"]) == (4, 1)
    kept: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    assert kept.config.router_features_shuffled
    for name, value in whole.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value), name
    assert torch.equal(kept(IDS % 40).logits, whole(IDS % 40).logits)


def test_no_gradient_passes_to_the_stream_through_them() -> None:
    model: Any = build(CONFIG)
    model.add_router_features(1, rows())
    features = model.blocks[1].anchors.features
    features.weight.data.fill_(1.0)
    stream = torch.randn(2, 5, 24, requires_grad=True)
    features(features.codes(stream)).sum().backward()
    assert stream.grad is None and features.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "layer", "width", "said"),
    [
        ({"router": "hash"}, 1, 24, "'hash', which see nothing"),
        ({}, 2, 24, "no block 2 .* has 2"),
        ({}, -1, 24, "no block -1"),
        ({}, 1, 16, "width 16, and the model's has 24"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_leaves_the_model_alone(
    changes: dict[str, Any], layer: int, width: int, said: str
) -> None:
    model = make(**changes)
    with pytest.raises(ModelError, match=said):
        model.add_router_features(layer, rows(width=width))
    assert model.config.router_features == 0
    with pytest.raises(ModelError):
        make(router="dense", **SHOWN)
