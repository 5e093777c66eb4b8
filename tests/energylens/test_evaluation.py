"""Held-out measures against transformers' own loss, and in units no tokenizer changes."""

import math

import pytest
import torch

from energylens.lens.models import LanguageModel
from energylens.training.evaluation import Heldout, heldout


def measured(model: LanguageModel, texts: list[tuple[str, str]]) -> list[Heldout]:
    return heldout(model.hf_model, model.tokenizer, model.n_ctx, texts)


TEXTS = [("a", "The cat sat."), ("a", "Fish."), ("b", "Zwölf Boxkämpfer")]


@pytest.mark.parametrize("name", ["gpt2", "llama", "mesanet"])
def test_nats_equal_the_models_own_loss(name: str, request: pytest.FixtureRequest) -> None:
    model: LanguageModel = request.getfixturevalue(name)
    rows = {row.category: row for row in measured(model, TEXTS)}
    expected, n = 0.0, 0
    for category, text in TEXTS:
        ids = model.tokenizer.encode(text, add_special_tokens=False)[: model.n_ctx - 1]
        whole = torch.tensor([[model.bos_id, *ids]])
        with torch.no_grad():
            loss = model.hf_model(whole, labels=whole).loss
        if category == "a":
            expected, n = expected + float(loss) * len(ids), n + len(ids)
    assert rows["a"].nats == pytest.approx(expected, rel=1e-4)
    assert rows["a"].n_tokens == n
    assert rows["a"].perplexity == pytest.approx(math.exp(expected / n), rel=1e-4)
    assert rows["a"].bits_per_byte == pytest.approx(expected / math.log(2) / 17, rel=1e-4)
    assert rows["all"].nats == pytest.approx(rows["a"].nats + rows["b"].nats)
    assert rows["all"].n_texts == 3


def test_a_long_text_is_read_in_pieces_and_every_token_counts(gpt2: LanguageModel) -> None:
    text = "the cat sat on the mat and barks at night " * 4
    n = len(gpt2.tokenizer.encode(text, add_special_tokens=False))
    assert n > gpt2.n_ctx
    (row, _) = measured(gpt2, [("x", text)])
    assert row.n_tokens == n and row.n_bytes == len(text)
