"""Effects of ablation against losses computed by hand, curvature against its definition."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from energylens.lens.ablation import ablation_effects, agreement, logit_variance
from energylens.lens.batching import Batch
from energylens.lens.energy import NO_NEXT, lens_energies
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.saes import Sae, load_saes
from tests.conftest import make_sae
from tests.lens.test_energy import make_readout

IDS = torch.tensor([[0, 17, 40, 41, 99, 7], [0, 250, 3, 0, 0, 0]])
MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
NEXT = torch.tensor([[17, 40, 41, 99, 7, NO_NEXT], [250, 3, 12, -1, -1, -1]])
BATCH = Batch(IDS, MASK, NEXT)
MODELS = ["gpt2", "llama", "mesanet"]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> Sae:
    root = tmp_path_factory.mktemp("sae") / "one"
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=48).save_model(root)
    return load_saes([str(root)])[0]


def losses(found: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(
        found[MASK], NEXT[MASK], ignore_index=NO_NEXT, reduction="none"
    )


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_measured_changes_equal_losses_with_the_feature_taken_out_by_hand(
    model: LanguageModel, sae: Sae
) -> None:
    lens, total = ablation_effects(model, sae, 5, BATCH, seed=0)

    def without(value: Tensor, hook: Any) -> Tensor:
        z = sae.module.encode(value)[..., 5:6] * (MASK & (IDS != 0))[..., None]
        return value - z * sae.W_dec[5]

    none: list[Any] = []
    edits: list[Any] = [(sae.hook_name, without)]
    with torch.no_grad():
        clean, edited = (
            model.bridge.run_with_hooks(IDS, attention_mask=MASK.long(), fwd_hooks=hooks)
            for hooks in (none, edits)
        )
        _, cache = run_hooks(model, IDS, MASK.long(), [sae.hook_name])
        x = cache[sae.hook_name]
        by_lens = [
            losses(model.readout.logits(v.flatten(0, 1)).unflatten(0, IDS.shape))
            for v in (x, without(x, None))
        ]
    expected = float((losses(edited) - losses(clean)).sum())
    assert total.measured == pytest.approx(expected, abs=2e-4)
    assert lens.measured == pytest.approx(float((by_lens[1] - by_lens[0]).sum()), abs=1e-4)
    assert lens.n_active == len(lens.measured_by_token) <= total.n_active


def test_the_trapezoid_is_closer_than_first_order(gpt2: LanguageModel, sae: Sae) -> None:
    """Of a smooth function the trapezoid errs by the third order, the tangent by the second."""
    errors = np.zeros((2, 2))
    for feature in range(0, 48, 4):
        for row, found in enumerate(ablation_effects(gpt2, sae, feature, BATCH, seed=0)):
            errors[row] += (
                abs(found.first_order - found.measured), abs(found.trapezoid - found.measured)
            )  # fmt: skip
    assert (errors[:, 1] < 0.5 * errors[:, 0]).all()


def test_the_variance_is_the_mean_square_of_the_gradient_over_labels() -> None:
    """Fisher equals Gauss-Newton: E over y of p of (a_y . delta)^2, all labels counted out."""
    readout = make_readout("layer_norm")
    generator = torch.Generator().manual_seed(0)
    d_model, d_vocab = readout.W_U.shape
    h = torch.randn(4, d_model, generator=generator)
    delta = torch.randn(4, d_model, generator=generator)
    p = readout.logits(h).softmax(-1)
    expected = torch.zeros(4)
    for label in range(d_vocab):
        read = lens_energies(readout, h, torch.full((4,), label), with_gradient=True)
        assert read.gradient is not None
        expected += p[:, label] * (read.gradient * delta).sum(-1).square()
    torch.testing.assert_close(logit_variance(readout, h, delta), expected, rtol=1e-3, atol=1e-5)


def test_drawn_labels_give_that_curvature_on_average(gpt2: LanguageModel, sae: Sae) -> None:
    """At the last layer the model's energies are the lens energies, so both curvatures agree."""
    hook = "blocks.2.hook_resid_post"
    moved = replace(sae, hook_name=hook, target_hook=hook)
    first = second = 0.0
    for feature in range(0, 48, 4):
        for seed in range(3):
            lens, total = ablation_effects(gpt2, moved, feature, BATCH, seed)
            first += lens.gauss_newton - lens.first_order
            second += total.gauss_newton - total.first_order
    assert second == pytest.approx(first, rel=0.15)


def test_agreement_of_a_perfect_and_of_an_unrelated_prediction() -> None:
    generator = np.random.default_rng(0)
    measured = generator.normal(size=60)
    perfect = agreement(measured, measured)
    assert perfect.correlation == pytest.approx(1.0)
    assert perfect.slope == pytest.approx((1.0, 1.0, 1.0))
    assert perfect.sign_agreement == pytest.approx((1.0, 0.025 ** (1 / 60), 1.0))
    assert perfect.relative_error[0] == 0.0 and np.isnan(perfect.relative_error[1])
    covered = 0
    for _ in range(40):
        found = agreement(generator.normal(size=60), generator.normal(size=60))
        covered += found.slope[1] <= 0 <= found.slope[2]
    assert covered >= 33
    assert np.isnan(agreement(measured, measured, same_units=False).slope).all()
    assert np.isnan(agreement(measured[:2], measured[:2]).correlation)
    few = agreement(measured[:29], measured[:29] + 1.0)
    assert np.isfinite(few.slope[0]) and np.isnan(few.slope[1:]).all()
    assert np.isfinite(few.sign_agreement).all()
