"""What heads do on texts, against loops over every pair, TransformerLens, and the model itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens.head_detector import (
    compute_head_attention_similarity_score,
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)
from transformers import LlamaConfig, LlamaForCausalLM

from energylens.errors import ModelError
from energylens.lens.batching import Batch, batch_of
from energylens.lens.circuits.patterns import LayerHeads, read_patterns
from energylens.lens.circuits.tally import HeadTally
from energylens.lens.circuits.weights import read_heads
from energylens.lens.models import LanguageModel, load_model, read_hooks
from energylens.mesanet.mixers import MixerCache
from tests.conftest import D_MODEL, VOCAB, make_mesanet

CONTEXTS = [[0, 4, 5, 4, 5, 5, 9], [0, 7, 7, 3], [0, 1, 2, 1, 2, 8, 1, 1]]


def _batches() -> list[tuple[Batch, list[int]]]:
    """Two batches, one of them with padding."""
    given = [(ids, [*ids[1:], -1]) for ids in CONTEXTS]
    return [(batch_of(given[:1]), [10]), (batch_of(given[1:]), [11, 12])]


def _tally(model: LanguageModel, k: int = 2) -> tuple[HeadTally, dict[int, list[LayerHeads]]]:
    weights = read_heads(model)
    tally = HeadTally(weights, k)
    shown: dict[int, list[LayerHeads]] = {}

    def each(heads: LayerHeads) -> None:
        shown.setdefault(heads.layer, []).append(heads)
        tally.layer(heads)

    for batch, contexts in _batches():
        tally.begin(batch, contexts)
        read_patterns(model, weights, batch.ids, batch.mask, each)
    return tally, shown


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mesanet"])
def test_scores_are_those_of_a_loop_over_every_pair(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(kind)
    tally, shown = _tally(model)
    weights = read_heads(model)
    scores, uniform = tally.scores(), dict[tuple[int, int], dict[str, float]]()
    n_layers, n_heads = weights.n_layers, weights.n_heads
    for layer in range(n_layers):
        for head in range(n_heads):
            rows: dict[str, list[float]] = {}
            best = []
            for number, ids in enumerate(CONTEXTS):
                part, row = (0, 0) if number == 0 else (1, number - 1)
                heads = shown[layer][part]
                a = heads.pattern[row, head].double()
                write = heads.values[row, :, head].double() @ weights.W_O[layer, head].double()
                for t in range(1, len(ids)):
                    earlier = [s for s in range(t) if ids[s] == ids[t]]
                    after = [s + 1 for s in earlier]
                    for name, value in (
                        ("previous_token", a[t, t - 1]),
                        ("self_token", a[t, t]),
                        ("first_token", a[t, 0]),
                        ("entropy", -sum(p * p.log() for p in a[t, : t + 1] if p > 0)),
                        (
                            "output_norm",
                            (
                                heads.mixed[row, t, head].double()
                                @ weights.W_O[layer, head].double()
                            ).norm(),
                        ),
                        *((("duplicate_token", sum(a[t, s] for s in earlier)),) if earlier else ()),
                        *((("induction", sum(a[t, s] for s in after)),) if after else ()),
                    ):
                        rows.setdefault(name, []).append(float(value))
                    rows.setdefault("d", []).extend(t - s for s in range(t + 1))
                    rows.setdefault("w", []).extend(a[t, : t + 1].tolist())
                    uniform.setdefault((number, t), _alike(t, len(earlier)))
                pairs = [
                    (float(a[t, s] * write[s].norm()), t, s)
                    for t in range(1, len(ids))
                    for s in range(t + 1)
                ]
                best.append((*max(pairs), 10 + number))
            for name, values in rows.items():
                if name in scores.scores:
                    found = float(scores.scores[name][layer, head])
                    assert found == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6), name
            d, w = np.array(rows["d"]), np.array(rows["w"])
            mean = (d * w).sum() / w.sum()
            assert float(scores.scores["distance"][layer, head]) == pytest.approx(mean, rel=1e-4)
            variance = ((d - mean) ** 2 * w).sum() / w.sum()
            found = float(scores.scores["distance_variance"][layer, head])
            assert found == pytest.approx(variance, rel=1e-3, abs=1e-5)
            peaks = tally.peaks()
            for rank, (strength, t, s, context) in enumerate(sorted(best, reverse=True)[:2]):
                assert float(peaks.strength[layer, head, rank]) == pytest.approx(strength, rel=1e-4)
                assert int(peaks.destination[layer, head, rank]) == t
                assert int(peaks.source[layer, head, rank]) == s
                assert int(peaks.context[layer, head, rank]) == context
    assert scores.n_tokens == sum(len(ids) - 1 for ids in CONTEXTS)
    found = list(uniform.values())
    assert scores.n_induction == scores.n_duplicate == sum("induction" in one for one in found)
    for name in scores.uniform:
        expected = np.mean([one[name] for one in found if name in one])
        assert scores.uniform[name] == pytest.approx(expected), name


def _alike(t: int, n_earlier: int) -> dict[str, float]:
    """What a head scores at t that looks at everything alike."""
    share = 1 / (t + 1)
    names = ("previous_token", "self_token", "first_token")
    found = dict.fromkeys(names, share) | {"entropy": np.log(t + 1), "distance": t / 2}
    again = dict.fromkeys(("induction", "duplicate_token"), n_earlier * share)
    return found | (again if n_earlier else {})


def test_attention_that_is_no_number_is_refused(gpt2: LanguageModel) -> None:
    tally, shown = _tally(gpt2)
    batch, contexts = _batches()[1]
    tally.begin(batch, contexts)
    broken = shown[1][1]
    broken.mixed[1, 2, 0] = torch.nan
    with pytest.raises(ModelError, match=r"block 1 is NaN or infinite .* 11, 12: the model overf"):
        tally.layer(broken)


def test_values_by_attention_are_what_heads_put_out(save_model: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = load_model(str(save_model(LlamaForCausalLM(config))))
    weights = read_heads(model)
    assert torch.equal(weights.W_V[:, 0], weights.W_V[:, 1])
    assert not torch.equal(weights.W_V[:, 1], weights.W_V[:, 2])
    shown: list[LayerHeads] = []
    ids = torch.tensor([CONTEXTS[2]])
    read_patterns(model, weights, ids, torch.ones_like(ids).bool(), shown.append)
    for layer, heads in enumerate(shown):
        mixed = torch.einsum("bhts,bshe->bthe", heads.pattern, heads.values)
        torch.testing.assert_close(mixed, heads.mixed)
        written = torch.einsum("bthe,hed->btd", mixed, weights.W_O[layer])
        name = f"blocks.{layer}.hook_attn_out"
        torch.testing.assert_close(written, read_hooks(model, ids, [name])[name])


def test_scores_are_those_of_transformer_lens_head_detector(gpt2: LanguageModel) -> None:
    tally, shown = _tally(gpt2)
    scores = tally.scores()
    patterns = {
        "previous_token": (get_previous_token_head_detection_pattern, scores.n_tokens),
        "duplicate_token": (get_duplicate_token_head_detection_pattern, scores.n_duplicate),
        "induction": (get_induction_head_detection_pattern, scores.n_induction),
    }
    for name, (pattern, n) in patterns.items():
        for layer in range(3):
            for head in range(2):
                total = 0.0  # the detector's is the share of one context's attention
                for number, ids in enumerate(CONTEXTS):
                    part, row = (0, 0) if number == 0 else (1, number - 1)
                    attention = shown[layer][part].pattern[row, head, : len(ids), : len(ids)]
                    total += len(ids) * compute_head_attention_similarity_score(
                        attention, pattern(torch.tensor([ids])), exclude_bos=False,
                        exclude_current_token=False, error_measure="mul",
                    )  # fmt: skip
                found = float(scores.scores[name][layer, head])
                assert found * n == pytest.approx(total, abs=1e-3), name


@pytest.mark.parametrize("mixer", ["mesa", "attention"])
def test_the_weights_of_a_mixer_put_out_what_it_does(mixer: str) -> None:
    layer: Any = make_mesanet(mixer=mixer, solver_tolerance=1e-7, solver_steps=40).blocks[0].mixer
    x = torch.randn(2, 11, D_MODEL, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1, 7:] = False
    with torch.no_grad():
        mixing = layer.mixing(x, mask)
        given = (x, mask, MixerCache()) if mixer == "mesa" else (x, mask, MixerCache(), mask)
        expected = layer(*given)
        expected = expected[0] if mixer == "mesa" else expected
        made = layer.norm(mixing.weights @ mixing.values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer.out(made)[mask], expected[mask], atol=1e-4, rtol=1e-3)
    assert not mixing.weights.triu(1).any()


@pytest.mark.parametrize("kind", ["gpt2", "mesanet"])
@pytest.mark.parametrize("last", [None, 0])
def test_nothing_is_computed_after_the_last_attention_that_is_asked_for(
    kind: str, last: int | None, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(kind)
    weights, ids = read_heads(model), torch.tensor([CONTEXTS[0]])
    seen: list[int] = []
    reached: list[str] = []

    def note(name: str) -> Any:
        return lambda *_: reached.append(name)

    blocks = model.hf_model.blocks if kind == "mesanet" else model.hf_model.transformer.h
    handles = [
        model.hf_model.get_output_embeddings().register_forward_hook(note("logits")),
        *(block.register_forward_hook(note(f"block {i}")) for i, block in enumerate(blocks)),
    ]
    mask = torch.ones_like(ids).bool()
    try:
        read_patterns(model, weights, ids, mask, lambda heads: seen.append(heads.layer), last)
    finally:
        for handle in handles:
            handle.remove()
    end = model.n_layers - 1 if last is None else last
    assert seen == list(range(end + 1))
    assert reached == [f"block {i}" for i in range(end)]
