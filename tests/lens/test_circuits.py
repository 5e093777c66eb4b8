"""Circuits of heads by their weights against dense products and TransformerLens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens import FactoredMatrix
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from energylens.errors import ModelError
from energylens.lens.circuits.products import bigrams, compositions, copying, eigen_score, matching
from energylens.lens.circuits.skip_trigrams import skip_trigrams
from energylens.lens.circuits.weights import HeadWeights, read_heads
from energylens.lens.models import LanguageModel, load_model, read_hooks
from tests.conftest import D_MODEL, VOCAB, make_gpt2

N = 512
"""Words of the vocabulary that dense products are made over."""


@pytest.fixture(scope="module")
def wide() -> HeadWeights:
    """Heads of random weights, a vocabulary small enough for dense products."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    w_e, w_u = drawn(N, 32), drawn(32, N)
    q, k, v = (drawn(2, 3, 32, 8) for _ in range(3))
    return HeadWeights("attention", w_e, w_u, q, k, v, drawn(2, 3, 8, 32))


def _dense_eigen_score(matrix: torch.Tensor) -> float:
    values = np.linalg.eigvals(matrix.double().numpy())
    return float(values.real.sum() / np.abs(values).sum())


def test_small_products_have_the_eigenvalues_of_dense_ones(wide: HeadWeights) -> None:
    copies, matches = copying(wide).scores, matching(wide).scores
    keys = wide.W_E - wide.W_E.mean(0)
    for layer, head in ((0, 2), (1, 0)):
        own = [w[layer, head] for w in (wide.W_Q, wide.W_K, wide.W_V, wide.W_O)]
        ov = wide.W_E @ own[2] @ own[3] @ wide.W_U
        qk = wide.W_E @ own[0] @ own[1].T @ keys.T
        assert float(copies[layer, head]) == pytest.approx(_dense_eigen_score(ov), abs=1e-5)
        assert float(matches[layer, head]) == pytest.approx(_dense_eigen_score(qk), abs=1e-5)


def test_a_head_that_copies_scores_one_and_one_that_forbids_minus_one(wide: HeadWeights) -> None:
    through = wide.W_U @ wide.W_E
    v = wide.W_V[0, 0]
    copies = v.T @ through.T  # O = V^T (U E)^T makes the product a square
    assert float(eigen_score(copies @ through @ v)) == pytest.approx(1, abs=1e-4)
    assert float(eigen_score(-copies @ through @ v)) == pytest.approx(-1, abs=1e-4)
    found = copying(wide)
    assert -0.8 < found.random_low < -0.1 < 0.1 < found.random_high < 0.8
    assert float(eigen_score(torch.zeros(4, 4))) == 0


def test_bigrams_are_the_largest_of_the_dense_path(
    wide: HeadWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energylens.lens.circuits.products._CHUNK", 7)
    tokens = torch.arange(3, 43)
    values, nexts = bigrams(wide, tokens, 5)
    dense = (wide.W_E.double() @ wide.W_U.double())[tokens].topk(5)
    torch.testing.assert_close(values.double(), dense.values, atol=1e-4, rtol=1e-5)
    assert torch.equal(nexts, dense.indices)


@pytest.mark.parametrize("chunk", [3, 1000])
def test_skip_trigrams_are_the_largest_of_all_products(
    wide: HeadWeights, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energylens.lens.circuits.skip_trigrams._CHUNK", chunk)
    tokens = torch.arange(0, N, 11)
    q, k, v, o = (w[1, 2].double() for w in (wide.W_Q, wide.W_K, wide.W_V, wide.W_O))
    read = wide.W_E.double()[tokens]
    keys = read @ k
    attention = (keys - keys.mean(0)) @ (read @ q).T / 8**0.5
    logits = read @ v @ o @ wide.W_U.double()
    product = attention.clamp_min(0)[:, :, None] * logits.clamp_min(0)[:, None, :]
    expected = product.flatten().topk(25)
    found = skip_trigrams(wide, 1, 2, tokens, 25)
    np.testing.assert_allclose([one.strength for one in found], expected.values, rtol=1e-4)
    n = len(tokens)
    places = [(int(p) // (n * N), int(p) // N % n, int(p) % N) for p in expected.indices]
    named = [(int(tokens[s]), int(tokens[d]), out) for s, d, out in places]
    assert [(one.source, one.destination, one.out) for one in found] == named


def test_compositions_are_ratios_of_dense_norms(wide: HeadWeights) -> None:
    ov, qk = wide.W_V @ wide.W_O, wide.W_Q @ wide.W_K.mT
    read = {"Q": qk, "K": qk.mT, "V": ov}
    for found in compositions(wide):
        for i in range(3):
            for j in range(3):
                a, b = ov[0, i], read[found.how][1, j]
                expected = float((a @ b).norm() / (a.norm() * b.norm()))
                assert float(found.scores[0, i, 1, j]) == pytest.approx(expected, rel=1e-4)
        assert found.scores[1].isnan().all() and found.scores[0, :, 0].isnan().all()
        scores = found.scores[0, :, 1]
        assert found.random == pytest.approx(float(scores.mean()), rel=0.15), "also random here"


def _gained(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """With gains and biases of the norms that are not those of a new model."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".ln_" in name:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


def test_folding_and_composition_are_those_of_transformer_lens(
    save_model: Callable[..., Path],
) -> None:
    model = load_model(str(save_model(_gained(make_gpt2()))))
    own = read_heads(model)
    bridge: Any = model.bridge
    bridge.enable_compatibility_mode(disable_warnings=True)
    for mine, theirs in (
        (own.W_Q @ own.W_K.mT, bridge.QK.AB),
        (own.W_V @ own.W_O, bridge.OV.AB),
        (own.W_U, bridge.W_U),
    ):
        torch.testing.assert_close(mine, theirs.detach(), atol=1e-3, rtol=1e-3)
    for found in compositions(own):
        theirs = bridge.all_composition_scores(found.how).scores.detach()
        torch.testing.assert_close(found.scores.nan_to_num(0.0), theirs, atol=1e-3, rtol=1e-3)
    eigenvalues = (FactoredMatrix(own.W_E, own.W_V @ own.W_O) @ own.W_U).eigenvalues
    expected = eigenvalues.real.sum(-1) / eigenvalues.abs().sum(-1)
    torch.testing.assert_close(copying(own).scores, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_coarse_formats_are_read_too(dtype: str, kind: str, request: pytest.FixtureRequest) -> None:
    model: LanguageModel = request.getfixturevalue(kind)
    coarse = read_heads(load_model(model.source, dtype))
    fine = read_heads(model)
    torch.testing.assert_close(coarse.W_V, fine.W_V, atol=0.02, rtol=0.02)
    torch.testing.assert_close(coarse.W_Q, fine.W_Q, atol=0.02, rtol=0.02)


def test_grouped_keys_are_shared_and_attend_as_the_model_does(llama: LanguageModel) -> None:
    own = read_heads(llama)
    assert torch.equal(own.W_K[:, 0], own.W_K[:, 1]) and not torch.equal(
        own.W_Q[:, 0], own.W_Q[:, 1]
    )
    ids = torch.tensor([[5, 9, 5, 7, 1]])
    cache = read_hooks(llama, ids, ["blocks.0.attn.hook_attn_scores"])
    read = own.W_E[ids[0]]
    here = torch.einsum("phe,phe->hp", *((read @ w[0]).transpose(0, 1) for w in (own.W_Q, own.W_K)))
    expected = cache["blocks.0.attn.hook_attn_scores"][0].diagonal(0, 1, 2)
    torch.testing.assert_close(here / own.d_head**0.5, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "inverse"])
def test_scores_are_scaled_as_the_model_scales_them(
    kind: str, save_model: Callable[..., Path]
) -> None:
    model = load_model(str(save_model(_scaled(kind))))
    own, ids = read_heads(model), torch.tensor([[5, 9, 5, 7]])
    bridge: Any = model.bridge
    for layer in range(own.n_layers):
        name = f"blocks.{layer}.attn.hook_attn_scores"
        found = read_hooks(model, ids, [name, f"blocks.{layer}.hook_resid_pre"])
        x = bridge.blocks[layer].ln1.original_component(found[f"blocks.{layer}.hook_resid_pre"][0])
        raw = [getattr(bridge, w)[layer].detach() for w in ("W_Q", "W_K")]
        dense = torch.einsum("pd,hde,hfe,qf->hpq", x, *raw, x).tril() / own.d_head**0.5
        scale = 1 / (layer + 1) if kind == "inverse" else 1.0
        below = torch.ones(4, 4).tril().bool()
        torch.testing.assert_close(found[name][0][:, below], scale * dense[:, below])
        gain = bridge.blocks[layer].ln1.original_component.weight.detach()
        folded = scale * gain[:, None] * raw[0]
        torch.testing.assert_close(own.W_Q[layer], folded - folded.mean(1, keepdim=True))


def _scaled(kind: str) -> Any:
    """Without biases in queries and keys, as new models are."""
    if kind == "gpt2":
        return _gained(make_gpt2())
    return make_gpt2(scale_attn_by_inverse_layer_idx=True)


def _neo() -> GPTNeoForCausalLM:
    torch.manual_seed(0)
    return GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=VOCAB, hidden_size=D_MODEL, num_layers=2, num_heads=2, bos_token_id=0,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=16, window_size=8,
            eos_token_id=0, initializer_range=0.3,
        )
    )  # fmt: skip


def _mamba() -> MambaForCausalLM:
    return MambaForCausalLM(
        MambaConfig(
            vocab_size=VOCAB, hidden_size=D_MODEL, num_hidden_layers=2, state_size=4,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip


def _normed(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return kind(
        config(
            vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=12, max_position_embeddings=16,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_mamba, "Mamba.* it has no attention"),
        (_neo, r"GPTNeo.* its scores are not products of queries and keys"),
        (lambda: _normed(Qwen3ForCausalLM, Qwen3Config), "queries and keys are normed"),
        (lambda: _normed(Gemma2ForCausalLM, Gemma2Config), "writes? is normed, scaled or gated"),
    ],
)
def test_what_these_matrices_do_not_describe_is_refused(
    make: Callable[[], Any], said: str, save_model: Callable[..., Path]
) -> None:
    model = load_model(str(save_model(make())))
    with pytest.raises(ModelError, match=said):
        read_heads(model)
