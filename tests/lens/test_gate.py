"""The gate against closed forms, and on wrong hooks, models and scalings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from energylens.lens.gate import GateSums, ce_losses, ce_score
from energylens.lens.models import LanguageModel
from energylens.lens.saes import load_saes
from tests.conftest import D_MODEL, VOCAB, make_sae


def test_figures_equal_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(200, 5, generator=generator)
    y = x + 0.4 * torch.randn(200, 5, generator=generator)
    codes = torch.relu(torch.randn(200, 7, generator=generator) - 1) * torch.tensor(
        [1, 1, 1, 1, 1, 0, 50.0]
    )
    codes[:, 4] += 1.0
    sums = GateSums(7)
    for part in range(0, 200, 33):
        sums.add(codes[part : part + 33], x[part : part + 33], y[part : part + 33])
    found = sums.result(None, 0.5)
    centred = (x - x.mean(0)).numpy().astype(np.float64)
    fvu = ((x - y).numpy().astype(np.float64) ** 2).sum() / (centred**2).sum()
    density = (codes.numpy() != 0).mean(0)
    assert found.fvu == pytest.approx(fvu, rel=1e-6)
    assert found.explained_variance == pytest.approx(1 - fvu, rel=1e-6)
    assert found.l0 == pytest.approx(density.sum())
    assert (found.n_dead, found.n_dense) == (1, int((density > 0.1).sum()))
    assert found.refusal is None


def test_explained_variance_is_about_the_mean_not_about_zero() -> None:
    x = 100 + torch.randn(50, 3)
    sums = GateSums(1)
    sums.add(torch.ones(50, 1), x, x.mean(0).expand_as(x))  # a reconstruction that knows the mean
    assert sums.result(None, None).fvu == pytest.approx(1.0)


def test_negative_codes_count_as_active() -> None:
    sums = GateSums(2)
    sums.add(torch.tensor([[-1.0, 0.0]] * 20), torch.randn(20, 2), torch.zeros(20, 2))
    found = sums.result(None, None)
    assert (found.l0, found.n_dead) == (1.0, 1)


@pytest.mark.parametrize(
    ("scale", "declared", "reason"),
    [
        (5.0, None, "of the variance unexplained"),
        (float("nan"), None, "of the variance unexplained"),
        (1.0, 40.0, "its maker declares 40"),
        (1.0, 0.5, "its maker declares 0.5"),
    ],
)
def test_what_cannot_be_right_is_refused(scale: float, declared: float | None, reason: str) -> None:
    x = torch.randn(100, 4)
    sums = GateSums(8)
    sums.add(torch.cat([x.relu(), (-x).relu()], 1), x, scale * x)
    refusal = sums.result(declared, None).refusal
    assert refusal is not None and reason in refusal


@pytest.mark.parametrize("declared", [40.0, 0.5])
def test_thresholds_that_have_not_converged_are_no_wrong_hook(declared: float) -> None:
    """As of an SAE whose training was short: it reconstructs, with another L0 than declared."""
    x = torch.randn(100, 4)
    sums = GateSums(8)
    sums.add(torch.cat([x.relu(), (-x).relu()], 1), x, x)
    refusal = sums.result(declared, None).refusal
    assert refusal is not None and "training was short" in refusal and "wrong" not in refusal
    assert sums.result(4.0, None).refusal is None


def test_a_silent_sae_is_refused() -> None:
    x = torch.randn(100, 4)
    sums = GateSums(8)
    sums.add(torch.zeros(100, 8), x, x)
    refusal = sums.result(None, None).refusal
    assert refusal is not None and "no feature is ever active" in refusal


def test_ce_losses_equal_runs_with_the_stream_replaced_by_hand(
    gpt2: LanguageModel, tmp_path: Path
) -> None:
    hook = "blocks.1.hook_resid_post"
    original = make_sae("standard", hook, d_sae=2 * D_MODEL)
    with torch.no_grad():
        original.W_dec *= 0.8  # so that the SAE loses something
    original.save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae")])
    ids = torch.randint(1, VOCAB, (2, 9), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = 0
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 6:] = False
    found = ce_losses(gpt2, sae, ids, mask)

    blocks = gpt2.hf_model.transformer.h

    def loss_with(change) -> float:
        def hook_(module, inputs, output):
            h = output[0] if isinstance(output, tuple) else output
            changed = h.clone()
            changed[:, 1:] = change(h[:, 1:])
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = blocks[1].register_forward_hook(hook_)
        try:
            with torch.no_grad():
                logits = gpt2.hf_model(ids).logits
        finally:
            handle.remove()
        log_p = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return float(-log_p[mask[:, 1:]].sum())

    assert found[0] == pytest.approx(loss_with(lambda h: h), rel=1e-5)
    assert found[1] == pytest.approx(loss_with(original), rel=1e-5)
    assert found[2] == pytest.approx(loss_with(torch.zeros_like), rel=1e-5)
    assert found[3] == int(mask[:, 1:].sum())
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_a_share_of_nothing_has_no_value() -> None:
    """Zeros that help, or cost next to nothing, leave nothing of which an SAE could recover a
    share: 2.6 would be printed for a bad SAE."""
    assert ce_score(300.0, 310.0, 400.0, 100) == pytest.approx(0.9)
    assert ce_score(300.0, 299.0, 400.0, 100) == pytest.approx(1.01)
    assert ce_score(300.0, 316.0, 290.0, 100) is None
    assert ce_score(300.0, 301.0, 300.5, 100) is None
    assert ce_score(0.0, 0.0, 0.0, 0) is None
