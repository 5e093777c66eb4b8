"""Routers against what the experts of transformers' own models are handed, and make of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.small_models import MIXTURES, small_model
from energylens.lens.experts import watch
from energylens.lens.models import LanguageModel, load_model, run_hooks
from energylens.lens.routers import Recorded, find_routers, record_routing, routes, routing_gap

WRAPPED = (
    "afmoe", "ernie4_5_moe", "glm4_moe", "gpt_oss", "granitemoe", "jamba", "laguna", "lfm2_moe",
    "llama4_text", "minimax_m2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe",
)  # fmt: skip
"""Softmax before and after the choice, sigmoid, balanced, scaled, unnormalised, dense experts."""


@pytest.mark.parametrize("name", MIXTURES)
def test_what_is_read_of_a_mixture_makes_its_experts_output(name: str) -> None:
    """The sum over the choices read of weight times expert, each expert asked for alone."""
    model = small_model(name)
    inputs: dict[int, torch.Tensor] = {}
    outputs: dict[int, torch.Tensor] = {}
    for path, module in model.named_modules():
        if path.endswith(".experts"):
            module.register_forward_hook(_keep(inputs, outputs), with_kwargs=True)
    with torch.no_grad(), watch(model) as watched:
        model(torch.arange(8)[None])
    mixtures = watched.mixtures(8)
    assert mixtures.gap is None
    assert mixtures.found
    for mixture in mixtures.found:
        x, expected = inputs[id(mixture.experts)], outputs[id(mixture.experts)]
        found = _one_by_one(mixture.experts, x, mixture.seen, dense=name == "llama4_text")
        torch.testing.assert_close(found, expected.reshape(found.shape), rtol=1e-4, atol=1e-4)


def _keep(inputs: dict[int, torch.Tensor], outputs: dict[int, torch.Tensor]) -> Any:
    def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        inputs[id(module)] = next(iter([*args, *kwargs.values()]))
        outputs[id(module)] = output

    return hook


def _one_by_one(experts: Any, x: torch.Tensor, seen: Any, dense: bool) -> torch.Tensor:
    if dense:  # every expert gets every token, scaled by its weight
        n, n_experts = len(seen.weights), experts.num_experts
        scale = torch.zeros(n, n_experts).scatter(1, seen.choice_ids, seen.weights)
        whole = x.reshape(n_experts, n, -1)
        i = seen.choice_ids[:, 0]
        bare = whole[i, torch.arange(n)] / scale[torch.arange(n), i][:, None]
        with torch.no_grad():
            return experts((bare[None] * scale.T[..., None]).reshape(n * n_experts, -1))
    found = torch.zeros(len(seen.weights), x.shape[-1])
    for j in range(seen.weights.shape[1]):
        only = torch.zeros_like(seen.weights).index_fill(1, torch.tensor([j]), 1.0)
        with torch.no_grad():
            out = experts(x, seen.choice_ids, only.to(x)).reshape(found.shape)
        found += out * seen.weights[:, [j]]
    return found


@pytest.mark.parametrize("name", WRAPPED)
def test_choices_and_weights_are_those_the_models_own_experts_are_handed(
    name: str, save_model: Callable[..., Path]
) -> None:
    hf_model = small_model(name)
    model = load_model(str(save_model(hf_model)))
    routers = find_routers(model)
    ids = torch.randint(0, 300, (2, 7), generator=torch.Generator().manual_seed(1))
    with record_routing(routers) as recorded:
        run_hooks(model, ids, torch.ones_like(ids), ["blocks.0.hook_resid_pre"])
    truth = _handed(hf_model, ids)
    assert [router.layer for router in routers] == sorted(truth)
    for router in routers:
        found = routes(recorded[router.name], torch.ones(14, dtype=torch.bool))
        assert (found.weights.diff(dim=-1) <= 0).all()
        mine = torch.zeros(14, 8).scatter_add(1, found.choice_ids, found.weights)
        torch.testing.assert_close(mine, truth[router.layer], rtol=1e-4, atol=1e-5)


def _handed(hf_model: Any, ids: torch.Tensor) -> dict[int, torch.Tensor]:
    """By block, [tokens, 8]: the weight of each expert, 0 where it is not chosen."""
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            given = [x for x in [*args, *kwargs.values()] if torch.is_tensor(x)]
            chosen = next(x for x in given if not x.is_floating_point())
            weights = next(x for x in given if x.is_floating_point() and x.shape == chosen.shape)
            found[layer] = torch.zeros(len(chosen), 8).scatter_add(1, chosen, weights)

        return hook

    def sigmoids(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            top = torch.topk(output[1], module.top_k, dim=1)
            found[layer] = torch.zeros(len(output[1]), 8).scatter(
                1, top.indices, top.values.sigmoid()
            )

        return hook

    for path, module in hf_model.named_modules():
        layer = next((int(part) for part in path.split(".") if part.isdigit()), None)
        if type(module).__name__ == "Llama4Router" and layer is not None:
            module.register_forward_hook(sigmoids(layer))
        elif path.endswith(".experts") and "Llama4" not in type(module).__name__:
            assert layer is not None
            module.register_forward_pre_hook(keep(layer), with_kwargs=True)
    with torch.no_grad():
        hf_model(ids)
    return found


@pytest.mark.parametrize(
    ("name", "score"),
    [("mixtral", "softmax"), ("minimax_m2", "sigmoid"), ("deepseek_v4", "square root of softplus"),
     ("gemma4_text", "as given")],
)  # fmt: skip
def test_the_scores_are_told_from_the_handed_weights(name: str, score: str) -> None:
    model = small_model(name)
    with torch.no_grad(), watch(model) as watched:
        model(torch.arange(8)[None])
    assert {mixture.score for mixture in watched.mixtures(8).found} == {score}


def test_shares_entropy_and_margin_of_a_sigmoid_gate(save_model: Callable[..., Path]) -> None:
    hf_model = small_model("lfm2_moe")
    model = load_model(str(save_model(hf_model)))
    ids = torch.arange(9)[None]
    with record_routing(find_routers(model)) as recorded:
        run_hooks(model, ids, torch.ones_like(ids), ["blocks.0.hook_resid_pre"])
    logits: list[torch.Tensor] = []
    gate = hf_model.model.layers[0].feed_forward.gate
    gate.register_forward_hook(lambda module, args, output: logits.append(output[0]))
    with torch.no_grad():
        hf_model(ids)
    scores = logits[0].sigmoid()
    shares = scores / scores.sum(-1, keepdim=True)
    found = routes(recorded["blocks.0.mlp.gate"], torch.ones(9, dtype=torch.bool))
    best = shares.topk(2).values
    torch.testing.assert_close(found.logits.softmax(-1), shares)
    torch.testing.assert_close(found.entropy, -(shares * shares.log()).sum(-1))
    torch.testing.assert_close(found.margin, best[:, 0] - best[:, 1])


def test_a_mixture_that_hands_nothing_over_stores_no_routing_and_says_so(
    save_model: Callable[..., Path],
) -> None:
    model = load_model(str(save_model(small_model("jetmoe"))))
    assert find_routers(model) == []
    assert "JetMoeMoE" in str(routing_gap(model))


def test_a_wrapper_that_hands_over_other_choices_stores_no_routing(
    save_model: Callable[..., Path],
) -> None:
    model = load_model(str(save_model(small_model("mixtral"))))
    with torch.no_grad():
        model.mixtures.found[0].gate.weight.mul_(-1.0)  # pyright: ignore
    assert find_routers(model) == []
    assert "other choices than in the model itself" in str(routing_gap(model))


def test_the_heaviest_choice_comes_first() -> None:
    recorded = Recorded(
        torch.zeros(2, 3), torch.tensor([[0, 2], [1, 0]]), torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    )
    found = routes(recorded, torch.tensor([True, True]))
    assert found.choice_ids.tolist() == [[2, 0], [1, 0]]
    torch.testing.assert_close(found.weights, torch.tensor([[0.8, 0.2], [0.6, 0.4]]))
    torch.testing.assert_close(found.entropy, torch.full((2,), 3.0).log())


def test_a_dense_model_has_no_router(gpt2: LanguageModel) -> None:
    assert find_routers(gpt2) == []
    assert routing_gap(gpt2) is None
