"""Routers against the router logits transformers returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from energylens.lens.models import LanguageModel, load_model, run_hooks
from energylens.lens.routers import Recorded, find_routers, record_routing, routes
from tests.conftest import VOCAB

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32,
    "num_experts_per_tok": 2, "initializer_range": 0.3,
}  # fmt: skip
MODELS = {
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}, True),
    "olmoe": (OlmoeForCausalLM, OlmoeConfig, {"num_experts": 5}, False),
    "qwen2": (
        Qwen2MoeForCausalLM,
        Qwen2MoeConfig,
        {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
        False,
    ),
    "qwen3": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig,
        {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 12, "norm_topk_prob": True},
        True,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_router_logits_are_those_of_transformers(
    name: str, save_model: Callable[..., Path]
) -> None:
    model_class, config_class, extra, normalised = MODELS[name]
    torch.manual_seed(0)
    hf_model = model_class(config_class(**SIZES, **extra)).eval()
    model = load_model(str(save_model(hf_model)))
    routers = find_routers(model)
    ids = torch.randint(0, VOCAB, (2, 7))
    with record_routing(routers, model.d_model) as found:
        run_hooks(model, ids, torch.ones_like(ids), ["blocks.0.hook_resid_post"])
    with torch.no_grad():
        expected = hf_model(ids, output_router_logits=True).router_logits
    assert [(r.layer, r.top_k, r.normalised) for r in routers] == [
        (0, 2, normalised),
        (1, 2, normalised),
    ]
    for router, logits in zip(routers, expected, strict=True):
        torch.testing.assert_close(found[router.name].logits, logits, rtol=1e-5, atol=1e-5)


def test_choices_weights_entropy_and_margin() -> None:
    from energylens.lens.routers import Router

    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    p = logits.softmax(-1)
    kept = torch.tensor([True, True])
    plain = routes(Router("r", 0, torch.nn.Identity(), 2, False), Recorded(logits), kept)
    scaled = routes(Router("r", 0, torch.nn.Identity(), 2, True), Recorded(logits), kept)
    assert plain.choice_ids[0].tolist() == [0, 1]
    torch.testing.assert_close(plain.weights[0], p[0, :2])
    torch.testing.assert_close(scaled.weights.sum(-1), torch.ones(2))
    torch.testing.assert_close(plain.entropy, -(p * p.log()).sum(-1))
    torch.testing.assert_close(plain.margin, torch.stack([p[0, 0] - p[0, 1], p[1, 0] - p[1, 1]]))


def test_a_dense_model_has_no_router(gpt2: LanguageModel) -> None:
    assert find_routers(gpt2) == []
