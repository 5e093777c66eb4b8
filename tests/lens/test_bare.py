"""What a pass sees is the same with and without the hook points nobody asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from benchmarks.small_models import small_model
from energylens.lens.bare import without_other_hooks
from energylens.lens.models import LanguageModel, load_model, read_hooks
from tests.conftest import VOCAB

KINDS = (
    "gpt2", "llama", "gemma2", "gpt_neox", "gptj", "bloom", "mpt", "opt", "mixtral", "olmo2",
    "falcon_h1", "phi3", "qwen3_next",
)  # fmt: skip
"""Norms after and before, fused queries, mixtures, recurrent blocks, ALiBi."""
SEEN = (
    "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out",
    "attn.hook_z", "attn.hook_pattern", "ln1.hook_normalized", "ln2.hook_scale", "mlp.hook_post",
)  # fmt: skip
IDS = torch.randint(0, VOCAB, (3, 11), generator=torch.Generator().manual_seed(0))


def components(model: LanguageModel) -> list[str]:
    return [
        name
        for name, module in model.hf_model.named_modules()
        if isinstance(module, GeneralizedComponent)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_each_hook_sees_what_it_sees_among_all(kind: str, save_model: Callable[..., Path]) -> None:
    model = load_model(str(save_model(small_model(kind, vocab_size=VOCAB))))
    hooks = [f"blocks.{layer}.{name}" for layer in (0, 1) for name in SEEN]
    hooks = [hook for hook in hooks if hook in model.bridge.hook_dict]
    assert len(hooks) >= 4
    before, keeps = components(model), model.hf_model.config.use_cache
    compared = 0
    for hook in hooks:
        expected = read_hooks(model, IDS, [hook])
        if not expected:
            continue  # a hook that this class never reaches
        with without_other_hooks(model.bridge, [hook]):
            assert len(components(model)) < len(before)
            found = read_hooks(model, IDS, [hook])
        torch.testing.assert_close(found[hook], expected[hook], rtol=1e-4, atol=1e-5)
        compared += 1
    assert compared >= 4
    assert components(model) == before and model.hf_model.config.use_cache == keeps


def test_several_hooks_and_an_error_leave_the_model_as_it_was(gpt2: LanguageModel) -> None:
    hooks = ["blocks.0.ln2.hook_normalized", "blocks.1.hook_resid_post", "blocks.1.attn.hook_z"]
    expected = read_hooks(gpt2, IDS, hooks)
    before = components(gpt2)
    with without_other_hooks(gpt2.bridge, hooks):
        found = read_hooks(gpt2, IDS, hooks)
    for hook in hooks:
        torch.testing.assert_close(found[hook], expected[hook], rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError), without_other_hooks(gpt2.bridge, hooks):
        raise RuntimeError
    assert components(gpt2) == before
    again = read_hooks(gpt2, IDS, hooks)
    assert all(torch.equal(again[hook], expected[hook]) for hook in hooks)
    with torch.no_grad(), without_other_hooks(gpt2.bridge, hooks[1:2]):
        read_hooks(gpt2, IDS, hooks[1:2])
    with torch.no_grad():
        assert gpt2.hf_model(IDS[:1]).logits.shape[0] == 1, "another number of contexts, directly"
