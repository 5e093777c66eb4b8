"""Total and own gradients against autograd through the model by hand; resampled labels."""

import numpy as np
import pytest
import torch
from scipy import stats

from energylens.lens.energy import NO_NEXT, lens_energies
from energylens.lens.gradients import model_gradients, token_uniforms
from energylens.lens.models import LanguageModel
from tests.lens.test_energy import make_readout, plain_loss

IDS = torch.tensor([[0, 17, 40, 41, 99, 7], [0, 250, 3, 0, 0, 0]])
MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
NEXT = torch.tensor([[17, 40, 41, 99, 7, NO_NEXT], [250, 3, 12, 0, 0, 0]])
HOOKS = ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"]


def energies(logits: torch.Tensor, row: int) -> torch.Tensor:
    """Summed energy of one row's real tokens, with torch's own loss."""
    n = int(MASK[row].sum())
    wanted = NEXT[row, :n]
    return torch.nn.functional.cross_entropy(
        logits[:n], wanted, ignore_index=NO_NEXT, reduction="sum"
    )


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_total_gradients_equal_autograd_without_padding(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(name)
    found = model_gradients(model, IDS, MASK, NEXT, HOOKS, own=False)
    for row in range(2):
        n = int(MASK[row].sum())
        states = model.hf_model(IDS[row : row + 1, :n], output_hidden_states=True)
        kept = states.hidden_states[1]  # what the first block leaves
        (expected,) = torch.autograd.grad(energies(states.logits[0], row), kept)
        mine = found[HOOKS[0]][row]
        torch.testing.assert_close(mine[:n], expected[0], rtol=1e-4, atol=1e-5)
        assert not mine[n:].any()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_all_gradients_agree_at_the_last_layer(name: str, request: pytest.FixtureRequest) -> None:
    model: LanguageModel = request.getfixturevalue(name)
    total, own = (model_gradients(model, IDS, MASK, NEXT, HOOKS, own=o) for o in (False, True))
    last = HOOKS[-1]
    torch.testing.assert_close(total[last], own[last])
    assert (total[HOOKS[0]] - own[HOOKS[0]]).abs().max() > 1e-2


def test_own_gradients_equal_a_stream_that_attends_to_frozen_keys_and_values(
    gpt2: LanguageModel,
) -> None:
    """GPT-2's later blocks written out, with keys and values that are numbers, not functions."""
    found = model_gradients(gpt2, IDS[:1], MASK[:1], NEXT[:1], HOOKS, own=True)[HOOKS[0]][0]
    body = gpt2.hf_model.transformer
    with torch.no_grad():
        states = gpt2.hf_model(IDS[:1], output_hidden_states=True).hidden_states[1]
    h = states[0].clone().requires_grad_(True)
    x, heads = h, gpt2.hf_model.config.n_head
    for block in body.h[1:]:
        q, k, v = block.attn.c_attn(block.ln_1(x)).split(x.shape[1], dim=1)
        q, k, v = (part.reshape(len(x), heads, -1).transpose(0, 1) for part in (q, k, v))
        scores = q @ k.detach().transpose(1, 2) / q.shape[-1] ** 0.5
        causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
        weights = scores.masked_fill(~causal, -torch.inf).softmax(-1)
        mixed = (weights @ v.detach()).transpose(0, 1).reshape(x.shape)
        x = x + block.attn.c_proj(mixed)
        x = x + block.mlp(block.ln_2(x))
    (expected,) = torch.autograd.grad(energies(gpt2.hf_model.lm_head(body.ln_f(x)), 0), h)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"softcap": 3.0}, {"logit_scale": 0.25}])
def test_resampled_labels_give_the_gradient_of_the_label_drawn(changes: dict) -> None:
    readout = make_readout("layer_norm", **changes)
    h = torch.randn(60, 12, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(60) % 30
    uniforms = token_uniforms(np.arange(60))
    found = lens_energies(readout, h, targets, True, uniforms).resampled_gradient
    p = readout.logits(h).double().softmax(-1)
    drawn = (p.cumsum(-1) <= uniforms.double()[:, None]).sum(-1)
    assert len(drawn.unique()) > 5 and (drawn != targets).any()
    exact = h.double().requires_grad_(True)
    (expected,) = torch.autograd.grad(plain_loss(readout, exact, drawn).sum(), exact)
    assert found is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_resampled_gradients_have_mean_zero_and_true_ones_need_not() -> None:
    readout = make_readout("rms_norm")
    h = torch.randn(1, 12).expand(4000, 12).contiguous()
    targets = torch.zeros(4000, dtype=torch.long)
    read = lens_energies(readout, h, targets, True, token_uniforms(np.arange(4000)))
    assert read.resampled_gradient is not None and read.gradient is not None
    null = stats.ttest_1samp(read.resampled_gradient.double().numpy(), 0.0)[1]
    assert np.asarray(null).min() > 0.05 / 12 and read.gradient.abs().max() > 0.05


def test_uniforms_are_uniform_and_a_function_of_the_token() -> None:
    numbers = token_uniforms(np.arange(20_000))
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.001
    assert torch.equal(token_uniforms(np.array([5, 19_999])), numbers[[5, 19_999]])
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1
