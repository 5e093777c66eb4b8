"""Steered generation against transformers' own, and its measures against closed forms."""

import pytest
import torch

from energylens.lens.interventions import Edit, Intervention, feature_change
from energylens.lens.models import LanguageModel
from energylens.lens.saes import load_saes
from energylens.lens.steering import distinct_pairs, draw, generate, perplexity
from tests.conftest import make_sae

PROMPT = torch.tensor([0, 17, 40])


def nothing(new: torch.Tensor) -> None:
    pass


@pytest.mark.parametrize("name", ["gpt2", "llama", "mesanet"])
def test_without_an_edit_the_likeliest_tokens_are_those_of_generate(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(name)
    found = generate(model, PROMPT, None, 6, 0.0, 0, nothing)
    expected = model.hf_model.generate(
        PROMPT[None], max_new_tokens=6, do_sample=False, attention_mask=torch.ones(1, 3).long()
    )[0, 3:]
    assert found.tolist() == expected[: len(found)].tolist()
    assert len(found) == 6 or int(found[-1]) == model.tokenizer.eos_token_id


def test_the_same_seed_writes_the_same_and_an_edit_another(
    gpt2: LanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("sae") / "one"
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=48).save_model(root)
    (sae,) = load_saes([str(root)])
    plain = [generate(gpt2, PROMPT, None, 8, 1.0, seed, nothing).tolist() for seed in (1, 1, 2)]
    assert plain[0] == plain[1] != plain[2]
    none = Intervention(sae, feature_change(sae, Edit((3,), "add", 0.0)), gpt2.bos_id)
    much = Intervention(sae, feature_change(sae, Edit((3,), "add", 30.0)), gpt2.bos_id)
    assert generate(gpt2, PROMPT, none, 8, 1.0, 1, nothing).tolist() == plain[0]
    assert generate(gpt2, PROMPT, much, 8, 1.0, 1, nothing).tolist() != plain[0]


def test_a_full_context_ends_the_text(gpt2: LanguageModel) -> None:
    long = torch.randint(1, 200, (gpt2.n_ctx - 2,))
    assert len(generate(gpt2, long, None, 9, 1.0, 0, nothing)) <= 2


def test_draws_have_the_frequencies_of_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    uniforms = (torch.arange(3000) + 0.5) / 3000
    drawn = torch.stack([draw(logits, 1.0, u) for u in uniforms])
    found = torch.bincount(drawn, minlength=3) / 3000
    torch.testing.assert_close(found, logits.softmax(-1), rtol=0, atol=1e-3)
    assert int(draw(logits, 0.0, torch.tensor(0.0))) == 2
    assert int(draw(logits, 1.0, torch.tensor(1.0))) == 2


def test_measures_of_a_text() -> None:
    assert distinct_pairs([1, 2, 1, 2, 1]) == 0.5
    assert distinct_pairs([1, 2, 3]) == 1.0
    assert distinct_pairs([1]) != distinct_pairs([1])
    assert perplexity(torch.log(torch.tensor([2.0, 8.0]))) == pytest.approx(4.0)
