"""Edits under a condition: its tokens by numpy, and what must then be as without one, or as
without an edit."""

import numpy as np
import pytest
import torch
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.conditions import (
    Trigger,
    check_before,
    feature_trigger,
    linear_trigger,
)
from energylens.lens.interventions import Edit, Intervention, feature_change
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.saes import Sae, load_saes
from energylens.lens.steering import generate
from energylens.when import COMPARISONS
from tests.conftest import make_sae

IDS = torch.tensor([[0, 17, 40, 41, 99, 7], [0, 250, 3, 0, 0, 0]])
MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
MODELS = ["gpt2", "llama", "mesanet"]
EARLY, EDITED, OUT = (f"blocks.{i}.hook_resid_post" for i in range(3))
EDIT = Edit((3, 5), "add", 20.0)
above, at_least = COMPARISONS[">"], COMPARISONS[">="]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sae]:
    """One that is edited, one earlier with other features, one later."""
    root = tmp_path_factory.mktemp("saes")
    made = {
        "early": make_sae("standard", EARLY, d_sae=40),
        "edited": make_sae("standard", EDITED, d_sae=48),
        "topk": make_sae("topk", EDITED, d_sae=32),
        "late": make_sae("standard", OUT, d_sae=48),
    }
    for name, sae in made.items():
        sae.save_model(root / name)
    return {name: load_saes([str(root / name)])[0] for name in made}


def stream(
    model: LanguageModel, made: Intervention | None, hook: str = OUT, ids: Tensor = IDS,
    mask: Tensor = MASK,
) -> Tensor:  # fmt: skip
    hooks = [] if made is None else made.hooks(ids, mask)
    return run_hooks(model, ids, mask.long(), [hook], edits=hooks)[1][hook]


def edit(model: LanguageModel, sae: Sae, when: Trigger | None, **more: object) -> Intervention:
    return Intervention(sae, feature_change(sae, EDIT), model.bos_id, when=when, **more)  # type: ignore


def by_numpy(model: LanguageModel, sae: Sae, ids: Tensor = IDS, mask: Tensor = MASK) -> np.ndarray:
    """[batch, pos, feature]: codes of a standard SAE by its own formula, in numpy."""
    x = stream(model, None, sae.hook_name, ids, mask).numpy()
    weights = {name: value.numpy() for name, value in sae.module.state_dict().items()}
    return np.maximum((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"], 0)


def middle(codes: np.ndarray) -> tuple[int, float]:
    """A feature active at several tokens, and a threshold some of them are above."""
    real = codes[MASK.numpy() & (IDS.numpy() != 0)]
    feature = int((real > 0).sum(0).argmax())
    values = np.sort(real[:, feature])
    return feature, float((values[-2] + values[-3]) / 2)


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize("read", ["early", "edited", "topk"])
def test_one_that_always_holds_is_none_and_one_that_never_does_is_no_edit(
    model: LanguageModel, saes: dict[str, Sae], read: str
) -> None:
    sae = saes["edited"]
    always = edit(model, sae, feature_trigger(saes[read], 1, at_least, -1.0))
    never = edit(model, sae, feature_trigger(saes[read], 1, above, 1e9))
    plain, unconditional = stream(model, None), stream(model, edit(model, sae, None))
    assert torch.equal(stream(model, always), unconditional)
    assert torch.equal(stream(model, never), plain)
    assert not torch.allclose(plain[MASK], unconditional[MASK], atol=0.1)


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize("read", ["early", "edited"])
def test_its_tokens_are_those_of_numpy_and_no_other_is_changed(
    model: LanguageModel, saes: dict[str, Sae], read: str
) -> None:
    """At the hook of the edit, where nothing of it has spread to later tokens yet."""
    codes = by_numpy(model, saes[read])
    feature, threshold = middle(codes)
    expected = (codes[:, :, feature] > threshold) & MASK.numpy() & (IDS.numpy() != 0)
    told: list[Tensor] = []
    trigger = feature_trigger(saes[read], feature, above, threshold)
    made = edit(model, saes["edited"], trigger, told=told.append)
    before, after = stream(model, None, EDITED), stream(model, made, EDITED)
    assert 0 < expected.sum() < (MASK & (IDS != 0)).sum()
    np.testing.assert_array_equal(told[0].numpy(), expected)
    moved = (before != after).any(-1)
    assert torch.equal(moved, torch.from_numpy(expected))
    module = saes["edited"].module
    by_hand = 20.0 * (module.W_dec[3] + module.W_dec[5])
    added = (after - before)[moved]
    torch.testing.assert_close(added, by_hand.expand_as(added), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sign", list(COMPARISONS))
def test_every_comparison_is_that_of_numpy(
    gpt2: LanguageModel, saes: dict[str, Sae], sign: str
) -> None:
    codes = by_numpy(gpt2, saes["early"])
    feature, threshold = middle(codes)
    told: list[Tensor] = []
    trigger = feature_trigger(saes["early"], feature, COMPARISONS[sign], threshold)
    stream(gpt2, edit(gpt2, saes["edited"], trigger, told=told.append))
    compared = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[sign]
    real = MASK.numpy() & (IDS.numpy() != 0)
    np.testing.assert_array_equal(told[0].numpy(), compared(codes[:, :, feature], threshold) & real)


def test_a_linear_one_is_that_of_numpy(gpt2: LanguageModel, saes: dict[str, Sae]) -> None:
    codes = by_numpy(gpt2, saes["early"])
    weights = np.random.default_rng(0).normal(size=40).astype(np.float32)
    scores = codes @ weights
    threshold = float(np.median(scores[MASK.numpy()]))
    told: list[Tensor] = []
    trigger = linear_trigger(saes["early"], torch.from_numpy(weights), 0.25, above, threshold)
    stream(gpt2, edit(gpt2, saes["edited"], trigger, told=told.append))
    expected = (scores + 0.25 > threshold) & MASK.numpy() & (IDS.numpy() != 0)
    assert 0 < expected.sum() < MASK.sum() - 2
    np.testing.assert_array_equal(told[0].numpy(), expected)


def test_positions_and_a_condition_both_hold(gpt2: LanguageModel, saes: dict[str, Sae]) -> None:
    codes = by_numpy(gpt2, saes["early"])
    feature, threshold = middle(codes)
    told: list[Tensor] = []
    trigger = feature_trigger(saes["early"], feature, above, threshold)
    stream(gpt2, edit(gpt2, saes["edited"], trigger, told=told.append, positions=(0, 2, 4)))
    expected = (codes[:, :, feature] > threshold) & MASK.numpy()
    expected[:, [1, 3, 5]] = False
    np.testing.assert_array_equal(told[0].numpy(), expected)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_padding_and_neighbours_change_nothing(model: LanguageModel, saes: dict[str, Sae]) -> None:
    feature, threshold = middle(by_numpy(model, saes["early"]))
    made = edit(model, saes["edited"], feature_trigger(saes["early"], feature, above, threshold))
    together = stream(model, made)
    for row, size in ((0, 6), (1, 3)):
        ids = IDS[row : row + 1, :size]
        alone = stream(model, made, ids=ids, mask=torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(together[row, :size], alone[0], rtol=1e-4, atol=1e-4)


def test_a_text_is_written_under_a_condition(gpt2: LanguageModel, saes: dict[str, Sae]) -> None:
    prompt = torch.tensor([0, 17, 40])

    def written(when: Trigger | None) -> list[int]:
        made = edit(gpt2, saes["edited"], when)
        return generate(gpt2, prompt, made, 8, 1.0, 1, lambda new: None).tolist()

    plain = generate(gpt2, prompt, None, 8, 1.0, 1, lambda new: None).tolist()
    assert written(feature_trigger(saes["early"], 1, above, 1e9)) == plain
    assert written(feature_trigger(saes["early"], 1, at_least, -1.0)) == written(None) != plain


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_condition_after_the_edit_is_refused(model: LanguageModel, saes: dict[str, Sae]) -> None:
    for name in ("early", "edited", "topk"):
        check_before(model, saes[name].hook_name, EDITED)
    with pytest.raises(UsageError, match=r"'blocks.2.hook_resid_post'.*only after"):
        check_before(model, saes["late"].hook_name, EDITED)


def test_a_feature_that_does_not_exist_is_refused(saes: dict[str, Sae]) -> None:
    for feature in (40, -1):
        with pytest.raises(UsageError, match=f"features 0 to 39, not {feature}"):
            feature_trigger(saes["early"], feature, above, 0.0)
