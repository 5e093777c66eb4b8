"""Where a training of SAEs takes its activations from."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from energylens.errors import ModelError, TrainingError, UsageError
from energylens.lens.models import LanguageModel, read_hooks, run_hooks
from energylens.training.saes.blocks import Blocks
from energylens.training.saes.source import KeptSource, ModelSource
from tests.conftest import VOCAB
from tests.training_saes import HOOK, Planted


def test_activations_of_a_model_are_those_of_its_text_tokens(
    gpt2: LanguageModel, mesanet: LanguageModel
) -> None:
    ids = np.random.default_rng(0).integers(0, VOCAB, 4000).astype(np.int32)
    for model in (gpt2, mesanet):
        last = f"blocks.{model.n_layers - 1}.hook_resid_post"
        hooks = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", last)
        source = ModelSource(model, ids, hooks, 16, 0, "t")
        chunk = source.chunk(3)
        batch = source._windows.batch(3)
        _, cache = run_hooks(model, batch, torch.ones_like(batch), hooks)
        for hook in hooks:
            kept = [
                cache[hook][row, pos]
                for row in range(len(batch))
                for pos in range(1, 16)
                if batch[row, pos] != model.bos_id
            ]
            torch.testing.assert_close(chunk[hook], torch.stack(kept), rtol=1e-4, atol=1e-5)
        assert torch.equal(source.chunk(3)[last], chunk[last])


def test_a_pass_ends_at_the_last_hook(gpt2: LanguageModel, mesanet: LanguageModel) -> None:
    """Neither a later block nor the head runs; afterwards the model is as it was."""
    ids = torch.arange(1, 17)[None]
    for model in (gpt2, mesanet):
        before, _ = run_hooks(model, ids, torch.ones_like(ids), [])
        bare = model.hf_model
        blocks = bare.transformer.h if hasattr(bare, "transformer") else bare.blocks
        parts = (bare.get_output_embeddings(), blocks[1], blocks[2])
        ran = _runs(model, ids, parts, ["blocks.1.hook_resid_pre", "blocks.0.hook_mlp_out"])
        assert (ran[0], ran[2]) == (0, 0)
        assert _runs(model, ids, parts, ["blocks.2.hook_resid_post"]) == [0, 1, 1]
        after, _ = run_hooks(model, ids, torch.ones_like(ids), [])
        assert before is not None and after is not None and torch.equal(before, after)


def _runs(model: LanguageModel, ids: Tensor, parts: Sequence[Any], hooks: list[str]) -> list[int]:
    """How often each part of a model runs while hooks are read."""
    counts = [0] * len(parts)

    def count(place: int) -> Callable[..., None]:
        def run(*_: Any) -> None:
            counts[place] += 1

        return run

    handles = [part.register_forward_pre_hook(count(n)) for n, part in enumerate(parts)]
    read_hooks(model, ids, hooks)
    for handle in handles:
        handle.remove()
    return counts


def test_kept_activations_are_read_whole_once_a_pass_and_in_an_order_of_the_seed() -> None:
    def read(number: int, hook: str) -> np.ndarray:
        return np.full((3, 2), float(number), dtype=np.float32)

    orders = []
    for seed in (0, 1):
        source = KeptSource(read, 9, 3, (HOOK,), seed, {})
        order = [int(source.chunk(n)[HOOK][0, 0]) for n in range(18)]
        assert sorted(order[:9]) == sorted(order[9:]) == list(range(9))
        assert order[:9] != order[9:]
        orders.append(order)
    assert orders[0] != orders[1]


def test_a_block_is_a_function_of_its_number() -> None:
    def read(number: int) -> Tensor:
        blocks = Blocks(Planted(), 1500, 256, 3, lambda *_: None, lambda: False)
        block = blocks.read(number)
        return torch.cat([block.batch(n)[HOOK] for n in range(block.n_batches)])

    one, again, other = read(2), read(2), read(3)
    assert len(one) == 1536 and torch.equal(one, again) and not torch.equal(one, other)
    rows = torch.cat([Planted().chunk(n)[HOOK] for n in range(6, 9)])
    assert not torch.equal(one, rows)
    assert torch.equal(one[:, 0].sort().values, rows[:, 0].sort().values)


def test_bad_sources_are_sentences(gpt2: LanguageModel) -> None:
    ids = np.ones(4000, dtype=np.int32)
    with pytest.raises(ModelError, match=r"no hook 'blocks.9.hook_resid_post'.*did you mean"):
        ModelSource(gpt2, ids, ("blocks.9.hook_resid_post",), 16, 0, "t")
    with pytest.raises(UsageError, match=r"--n-ctx 17 is outside 2 to 16"):
        ModelSource(gpt2, ids, (HOOK,), 17, 0, "t")
    with pytest.raises(TrainingError, match=r"30 tokens of text are too few .* windows of 16"):
        ModelSource(gpt2, ids[:30], (HOOK,), 16, 0, "t")
    only_bos = ModelSource(gpt2, ids * 0, (HOOK,), 16, 0, "t")
    with pytest.raises(TrainingError, match=r"holds 0, and a batch takes 64; give more text"):
        Blocks(only_bos, 64, 64, 0, lambda *_: None, lambda: False).read(0)
    bad = Planted()
    bad.directions[0, 0] = math.nan
    with pytest.raises(
        TrainingError, match=rf"at {HOOK} hold NaN or infinity in the chunks 0 to 0"
    ):
        Blocks(bad, 64, 64, 0, lambda *_: None, lambda: False).read(0)
