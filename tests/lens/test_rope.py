"""Rows do not depend on the rows beside them, whatever a model makes of lengths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.small_models import VARIANTS, small_model
from energylens.lens.batching import batches, pad
from energylens.lens.models import LanguageModel, load_model, run_hooks

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **VARIANTS,
    **{
        name: (name, {})
        for name in (
            "afmoe", "apertus", "arcee", "codegen", "ernie4_5_moe", "exaone4", "falcon_h1", "gemma",
            "gemma2", "gemma4_text", "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox",
            "gpt_oss", "gptj", "granite", "granitemoe", "jamba", "laguna", "lfm2_moe", "llama",
            "mamba", "minimax_m2", "mixtral", "mpt", "nemotron_h", "olmo", "olmo2", "olmoe", "opt",
            "phi", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "smollm3", "stablelm",
            "starcoder2", "xglm",
        )
    },
}  # fmt: skip
LENGTHS = (1, 3, 5, 8, 9, 9, 14, 20)


def _load(name: str, save_model: Callable[..., Path]) -> LanguageModel:
    model_type, changes = MODELS[name]
    return load_model(str(save_model(small_model(model_type, **changes))))


@pytest.mark.parametrize("name", MODELS)
def test_a_context_reads_alike_alone_and_among_others(
    name: str, save_model: Callable[..., Path]
) -> None:
    model = _load(name, save_model)
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 300, (n,), generator=generator).tolist() for n in LENGTHS]
    last = model.resid_post(model.n_layers - 1)
    found: dict[int, torch.Tensor] = {}
    for batch in batches([len(row) for row in rows], 1000, model.regime):
        ids, mask = pad([rows[i] for i in batch])
        _, cache = run_hooks(model, ids, mask.long(), [last])
        found.update({i: cache[last][at, : len(rows[i])] for at, i in enumerate(batch)})
    for index, row in enumerate(rows):
        ids = torch.tensor([row])
        _, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
        torch.testing.assert_close(found[index], cache[last][0], rtol=1e-4, atol=1e-4)


def test_lengths_of_another_regime_make_another_batch(save_model: Callable[..., Path]) -> None:
    long = _load("longrope", save_model)
    assert list(batches(LENGTHS, 1000, long.regime)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    plain = load_model(str(save_model(small_model("llama"))))
    assert list(batches(LENGTHS, 1000, plain.regime)) == [list(range(8))]


def test_the_regime_is_what_transformers_alone_reads(save_model: Callable[..., Path]) -> None:
    """The bare model on one row is the truth; a mixed batch reads the short row otherwise."""
    model_type, changes = MODELS["longrope"]
    hf_model = small_model(model_type, **changes)
    ids, mask = pad([list(range(5)), list(range(20))])
    with torch.no_grad():
        alone = hf_model(ids[:1, :5]).logits
        mixed = hf_model(ids, attention_mask=mask.long()).logits[:1, :5]
    assert float((alone - mixed).abs().max()) > 1e-2


def test_dynamic_frequencies_forget_longer_passes(save_model: Callable[..., Path]) -> None:
    model_type, changes = MODELS["dynamic NTK"]
    hf_model = small_model(model_type, **changes)
    model = load_model(str(save_model(hf_model)))
    row, longer = torch.arange(12)[None], torch.arange(30)[None]
    hook = ["blocks.1.hook_resid_post"]
    _, first = run_hooks(model, row, torch.ones_like(row), hook)
    run_hooks(model, longer, torch.ones_like(longer), hook)
    _, again = run_hooks(model, row, torch.ones_like(row), hook)
    torch.testing.assert_close(first[hook[0]], again[hook[0]])
    assert list(batches((5, 8, 9, 12), 1000, model.regime)) == [[0, 1], [2], [3]]
