"""Attributions against autograd through edited codes, brute-force ablation, and closed forms."""

import pytest
import torch
from torch import Tensor

from energylens.lens.attribution import Attributor, FeatureMetric, Prediction, agreement, curve
from energylens.lens.interventions import Edit, feature_change
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.saes import Sae, load_saes
from tests.conftest import make_sae

IDS = torch.tensor([0, 17, 40, 41, 99, 7])
MASK = torch.ones(1, 6, dtype=torch.long)
METRIC = Prediction(4, 7)
MODELS = ["gpt2", "llama", "mesanet"]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> list[Sae]:
    root = tmp_path_factory.mktemp("saes")
    for layer in (0, 1, 2):
        hook = f"blocks.{layer}.hook_resid_post"
        make_sae("standard", hook, d_sae=48 - layer).save_model(root / f"{layer}")
    return load_saes([str(root)])


def logits(model: LanguageModel, hooks: list) -> Tensor:
    return model.bridge.run_with_hooks(IDS[None], attention_mask=MASK, fwd_hooks=hooks)[0]


def metric(found: Tensor) -> Tensor:
    return found[4, 7] - found[4].mean()


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_gradients_equal_autograd_through_the_codes(model: LanguageModel, saes: list[Sae]) -> None:
    sae = saes[1]
    codes, slope = Attributor(model, sae, IDS, METRIC).gradients()
    _, cache = run_hooks(model, IDS[None], MASK, [sae.hook_name])
    x = cache[sae.hook_name]
    z = sae.module.encode(x)[0].detach()
    leaf = z.clone().requires_grad_(True)
    edited = x + (sae.module.decode(leaf) - sae.module.decode(z))[None]
    with torch.enable_grad():
        value = metric(logits(model, [(sae.hook_name, lambda v, hook: edited)]))
        (expected,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(codes, z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_ablation_equals_removing_the_feature_by_hand(
    model: LanguageModel, saes: list[Sae]
) -> None:
    sae = saes[1]
    one = Attributor(model, sae, IDS, METRIC)

    def without(value: Tensor, hook: object) -> Tensor:
        z = sae.module.encode(value)[..., 9:10].clone()
        z[:, 0] = 0  # BOS is left alone
        return value - z * sae.W_dec[9]

    with torch.no_grad():
        expected = float(metric(logits(model, [(sae.hook_name, without)])))
    assert one.without([9]) == pytest.approx(expected, abs=1e-5)
    assert one.value() == pytest.approx(float(metric(logits(model, []).detach())), abs=1e-4)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_direct_attributions_of_the_last_layer_add_up_to_the_logit(
    model: LanguageModel, saes: list[Sae]
) -> None:
    """Codes, decoder bias and error make up the stream, and with its scale held the rest is
    linear."""
    sae, readout = saes[2], model.readout
    found = Attributor(model, sae, IDS, METRIC).direct()
    assert found is not None
    _, cache = run_hooks(model, IDS[None], MASK, [sae.hook_name])
    x = cache[sae.hook_name][0, 4]
    rest = x - sae.module.encode(x[None])[0] @ sae.W_dec
    column = readout.W_U[:, 7] - readout.W_U.mean(1)
    gain = readout.norm.gain / readout.norm.scale(x[None])[0]
    others = (readout.norm.centre(rest[None])[0] * gain + readout.norm.bias) @ column
    with torch.no_grad():
        expected = metric(readout.logits(cache[sae.hook_name][0]))
    torch.testing.assert_close(found.sum() + others, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_feature_of_a_later_layer_is_explained_by_earlier_ones(
    model: LanguageModel, saes: list[Sae]
) -> None:
    early, late = saes[0], saes[1]
    _, cache = run_hooks(model, IDS[None], MASK, [late.hook_name])
    active = late.module.encode(cache[late.hook_name])[0, 4]
    feature = int(active.argmax())
    one = Attributor(model, early, IDS, FeatureMetric(late, feature, 4))
    assert one.value() == pytest.approx(float(active[feature]), rel=1e-5)
    assert one.direct() is None
    _, slope = one.gradients()
    assert not slope[5].any(), "a later token cannot matter"
    step = 1e-2
    moved = feature_change(early, Edit((6,), "add", step))
    back = feature_change(early, Edit((6,), "add", -step))
    by_difference = (one.value(moved) - one.value(back)) / (2 * step)
    assert float(slope[1:, 6].sum()) == pytest.approx(by_difference, rel=0.05, abs=5e-3)


def test_curves_begin_at_nothing_and_end_at_everything(
    gpt2: LanguageModel, saes: list[Sae]
) -> None:
    one = Attributor(gpt2, saes[1], IDS, METRIC)
    codes, slope = one.gradients()
    order = (codes * slope)[1:].sum(0).abs().argsort(descending=True).tolist()
    faithful, complete = curve(one, order, [0, len(order)])
    assert faithful == pytest.approx([0.0, 1.0], abs=1e-4)
    assert complete == pytest.approx([1.0, 0.0], abs=1e-4)


def test_agreement_is_a_rank_correlation() -> None:
    x = [1.0, 2.0, 3.0, 4.0]
    assert agreement(x, [1.0, 8.0, 27.0, 64.0]) == pytest.approx(1.0)
    assert agreement(x, x[::-1]) == pytest.approx(-1.0)
    assert agreement(x[:2], x[:2]) is None
    assert agreement(x, [1.0] * 4) is None
