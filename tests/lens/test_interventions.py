"""Edits of features against the same done by hand with TransformerLens hooks and sae-lens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.interventions import (
    Change,
    Edit,
    Intervention,
    Seen,
    feature_change,
    flipped,
    like_feature_change,
    noise,
    see,
)
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.saes import Sae, load_saes
from tests.conftest import D_MODEL, make_sae

IDS = torch.tensor([[0, 17, 40, 41, 99, 7], [0, 250, 3, 0, 0, 0]])
MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
MODELS = ["gpt2", "llama", "mesanet"]
HOOK = "blocks.1.hook_resid_post"
OUT = "blocks.2.hook_resid_post"


@pytest.fixture
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> Sae:
    root = tmp_path_factory.mktemp("sae") / "one"
    make_sae("standard", HOOK, d_sae=48).save_model(root)
    return load_saes([str(root)])[0]


def stream(model: LanguageModel, hooks: list[Any] | None = None, ids: Tensor = IDS) -> Tensor:
    mask = MASK[:, : ids.shape[1]][: len(ids)]
    return run_hooks(model, ids, mask.long(), [OUT], edits=hooks or [])[1][OUT]


def intervene(model: LanguageModel, sae: Sae, change: Change, **changes: Any) -> Tensor:
    made = Intervention(sae, change, model.bos_id, **changes)
    return stream(model, made.hooks(IDS, MASK))


def by_hand(model: LanguageModel, edit: Any) -> Tensor:
    """The stream when `edit` replaces the vectors of all real tokens but BOS."""
    where = MASK & (IDS != 0)

    def hook(value: Tensor, hook: Any) -> Tensor:
        out = value.clone()
        out[where] = edit(value[where])
        return out

    return stream(model, [(HOOK, hook)])


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize(
    "edit",
    [
        Edit((3, 7), "scale", 1.0),
        Edit((3, 7), "add", 0.0),
        Edit((3, 7), "add", 0.0, "norm"),
        Edit((3, 7), "add", 0.0, "max", (2.0, 1.0)),
    ],
)
def test_an_edit_of_no_strength_changes_nothing(model: LanguageModel, sae: Sae, edit: Edit) -> None:
    found = intervene(model, sae, feature_change(sae, edit))
    torch.testing.assert_close(found[MASK], stream(model)[MASK], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_ablating_every_feature_leaves_the_error_term(model: LanguageModel, tmp_path: Path) -> None:
    """With 30 of 48 directions there is an error to be left; a norm over none is all rounding."""
    make_sae("standard", HOOK, d_sae=30).save_model(tmp_path / "few")
    (few,) = load_saes([str(tmp_path / "few")])
    found = intervene(model, few, feature_change(few, Edit(tuple(range(30)), "ablate")))
    module = few.module
    expected = by_hand(
        model,
        lambda x: x - module.decode(module.encode(x)) + module.decode(torch.zeros(len(x), 30)),
    )
    torch.testing.assert_close(found[MASK], expected[MASK], rtol=1e-5, atol=1e-5)
    assert (found - stream(model))[MASK].abs().max() > 0.1


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize(
    ("edit", "codes"),
    [
        (Edit((5,), "ablate"), lambda z: 0 * z),
        (Edit((5,), "scale", -2.0), lambda z: -2 * z),
        (Edit((5,), "clamp", 4.0), lambda z: 0 * z + 4),
        (Edit((5,), "clamp", 2.0, "max", (1.5,)), lambda z: 0 * z + 3),
        (Edit((5,), "add", 0.5), lambda z: z + 0.5),
    ],
)
def test_edits_equal_sae_lens_by_hand(
    model: LanguageModel, sae: Sae, edit: Edit, codes: Any
) -> None:
    module = sae.module

    def edited(x: Tensor) -> Tensor:
        z = module.encode(x)
        new = z.clone()
        new[:, 5] = codes(z[:, 5])
        return x - module.decode(z) + module.decode(new)

    found = intervene(model, sae, feature_change(sae, edit))
    torch.testing.assert_close(found[MASK], by_hand(model, edited)[MASK], rtol=1e-5, atol=1e-5)


def test_adding_a_share_of_the_norm_adds_that_length(gpt2: LanguageModel, sae: Sae) -> None:
    change = feature_change(sae, Edit((5,), "add", 0.5, "norm"))
    x = torch.randn(7, D_MODEL)
    added = change(Seen(torch.rand(7, 48), x, torch.ones(7, 1)))
    torch.testing.assert_close(added.norm(dim=1), 0.5 * x.norm(dim=1))
    cosine = torch.nn.functional.cosine_similarity(added, sae.W_dec[5][None])
    torch.testing.assert_close(cosine, torch.ones(7))


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_an_sae_that_scales_its_input_scales_what_is_written(
    kind: str, gpt2: LanguageModel, tmp_path: Path
) -> None:
    made = make_sae("standard", HOOK, d_sae=48)
    made.cfg.normalize_activations = kind
    made.save_model(tmp_path / "one")
    scaled = load_saes([str(tmp_path / "one")])[0]
    module = scaled.module

    def edited(x: Tensor) -> Tensor:
        new = module.encode(x).clone()
        new[:, 5] = 0
        without = module.decode(new)  # undoes, and forgets, the scale that encode kept
        return x - module.decode(module.encode(x)) + without

    found = intervene(gpt2, scaled, feature_change(scaled, Edit((5,), "ablate")))
    torch.testing.assert_close(found[MASK], by_hand(gpt2, edited)[MASK], rtol=1e-4, atol=1e-5)
    assert (found - stream(gpt2))[MASK].abs().max() > 1e-3


def test_a_transcoder_is_edited_where_it_writes(gpt2: LanguageModel, tmp_path: Path) -> None:
    where_in, where_out = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
    make_sae("standard", where_in, d_sae=48, hook_name_out=where_out).save_model(tmp_path / "t")
    coder = load_saes([str(tmp_path / "t")])[0]
    found = intervene(gpt2, coder, feature_change(coder, Edit((5,), "ablate")))
    _, cache = run_hooks(gpt2, IDS, MASK.long(), [where_in])
    z = coder.module.encode(cache[where_in])[..., 5:6]
    taken = z * coder.W_dec[5] * (MASK & (IDS != 0))[..., None]
    expected = stream(gpt2, [(where_out, lambda value, hook: value - taken)])
    torch.testing.assert_close(found[MASK], expected[MASK], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_chosen_tokens_alone_are_changed_and_nothing_before_them(
    model: LanguageModel, sae: Sae
) -> None:
    change = feature_change(sae, Edit((5,), "add", 3.0))
    clean, found = stream(model), intervene(model, sae, change, positions=(3,))
    torch.testing.assert_close(found[0, :3], clean[0, :3], rtol=0, atol=1e-6)
    assert (found[0, 3] - clean[0, 3]).abs().max() > 0.1
    torch.testing.assert_close(found[1, :3], clean[1, :3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_padding_changes_nothing_of_an_edit(model: LanguageModel, sae: Sae) -> None:
    made = Intervention(sae, feature_change(sae, Edit((5, 9), "ablate")), model.bos_id)
    alone, mask = IDS[1:, :3], MASK[1:, :3]
    together = stream(model, made.hooks(IDS, MASK))[1:, :3]
    by_itself = run_hooks(model, alone, mask.long(), [OUT], edits=made.hooks(alone, mask))[1][OUT]
    torch.testing.assert_close(together, by_itself, rtol=1e-4, atol=1e-5)


def test_controls_are_as_long_as_the_edit_and_no_part_of_it(gpt2: LanguageModel, sae: Sae) -> None:
    _, cache = run_hooks(gpt2, IDS, MASK.long(), [HOOK])
    seen = see(sae, cache[HOOK], cache[HOOK], MASK & (IDS != 0), MASK)
    edit = Edit((5, 11), "add", 2.0)
    change = feature_change(sae, edit)
    added = change(seen)
    torch.testing.assert_close(flipped(change)(seen), -added)
    other = noise(change, seed=3)(seen)
    torch.testing.assert_close(other.norm(dim=1), added.norm(dim=1))
    assert torch.equal(other, noise(change, seed=3)(seen))
    assert not torch.allclose(other, noise(change, seed=4)(seen))
    like, features = like_feature_change(sae, edit, seen, seed=0)
    assert len(features) == 2 and not {5, 11} & set(features)
    torch.testing.assert_close(like(seen).norm(dim=1), added.norm(dim=1))


def test_a_feature_of_like_strength_is_ablated_as_the_feature_is(
    gpt2: LanguageModel, sae: Sae
) -> None:
    _, cache = run_hooks(gpt2, IDS, MASK.long(), [HOOK])
    seen = see(sae, cache[HOOK], cache[HOOK], MASK & (IDS != 0), MASK)
    strength = seen.codes.sum(0)
    strongest = int(strength.argmax())
    like, features = like_feature_change(sae, Edit((strongest,), "ablate"), seen, seed=0)
    (other,) = features
    nearest = strength.sort(descending=True).values[:11]
    assert float(strength[other]) in nearest.tolist()
    torch.testing.assert_close(like(seen), -seen.codes[:, other, None] * sae.W_dec[other])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit((), "ablate"), "at least one feature"),
        (Edit((48,), "ablate"), "features 0 to 47, not 48"),
        (Edit((1,), "clamp", 1.0, "norm"), "can only be added"),
        (Edit((1,), "add", 1.0, "max"), "index the run"),
    ],
)
def test_an_edit_that_cannot_be_made_says_why(sae: Sae, edit: Edit, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        feature_change(sae, edit)
