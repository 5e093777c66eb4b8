"""Inputs that are rare and real: routers, per-head hooks, NUL bytes, special tokens in a text."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformers import MixtralConfig, MixtralForCausalLM

from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.ingest.plan import IngestConfig
from energylens.lens.energy import lens_energies
from energylens.lens.models import LanguageModel, load_model
from tests.conftest import D_MODEL, N_CTX, VOCAB, make_store


def rows(path: Path, sql: str) -> pl.DataFrame:
    with open_store(path) as store:
        return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def test_routers_of_a_mixture_are_recorded(
    save_model: Callable[..., Path], texts_dir: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    hf_model = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=N_CTX,
            num_local_experts=4, num_experts_per_tok=2, bos_token_id=0, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    path = tmp_path / "x.lens"
    make_store(path, IngestConfig(model=str(save_model(hf_model)), texts=str(texts_dir)))
    assert verify_store(path) == []
    tokens = rows(path, "SELECT * FROM tokens WHERE context_id = 0 ORDER BY token_index")
    with torch.no_grad():
        out = hf_model(torch.tensor([tokens["vocab_id"].to_list()]), output_router_logits=True)
    found = rows(
        path,
        "SELECT routing_tokens.* FROM routing_tokens JOIN tokens USING (run_id, token_index) "
        "WHERE context_id = 0 ORDER BY layer, token_index",
    )
    for layer in (0, 1):
        own = found.filter(pl.col("layer") == layer)
        expected = out.router_logits[layer]
        scores = expected.log_softmax(-1)
        np.testing.assert_allclose(own["logits"].to_list(), scores, rtol=1e-4, atol=1e-4)
        p = expected.softmax(-1)
        np.testing.assert_allclose(own["entropy"], torch.special.entr(p).sum(-1), rtol=1e-4)
        chosen = rows(
            path,
            f"SELECT * FROM routing WHERE layer = {layer} AND token_index < {len(tokens)} "
            "ORDER BY token_index, rank",
        )
        weights, ids = p.topk(2)
        assert chosen["choice_id"].to_list() == ids.flatten().tolist()
        normed = (weights / weights.sum(-1, keepdim=True)).flatten()
        np.testing.assert_allclose(chosen["weight"], normed, rtol=1e-4)
    energies = rows(path, "SELECT * FROM energies WHERE layer = 0 ORDER BY token_index LIMIT 5")
    assert (
        found.filter(pl.col("layer") == 0)["energy_out"]
        .head(5)
        .equals(energies["energy"].rename("energy_out"))
    )
    assert (
        found.filter(pl.col("layer") == 1)["energy_in"]
        .head(5)
        .equals(energies["energy"].rename("energy_in"))
    )


@pytest.mark.parametrize("reshape", ["hook_z", "none"])
def test_an_sae_on_the_heads_of_attention(
    config: IngestConfig, gpt2: LanguageModel, tmp_path: Path, reshape: Any
) -> None:
    hook = "blocks.1.attn.hook_z"
    sae = StandardSAE(
        StandardSAEConfig(
            d_in=D_MODEL,
            d_sae=2 * D_MODEL,
            reshape_activations=reshape,
            metadata=SAEMetadata(hook_name=hook, prepend_bos=True),
        )
    )
    basis = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL)).Q
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([basis, -basis]))
        sae.W_enc.copy_(sae.W_dec.T)
    sae.save_model(tmp_path / "heads")
    path = tmp_path / "x.lens"
    make_store(path, replace(config, saes=(str(tmp_path / "heads"),), keep=("activations",)))
    codes = rows(path, "SELECT * FROM codes ORDER BY token_index, feature_id")
    z = torch.tensor(
        rows(path, "SELECT * FROM activations ORDER BY token_index")["activation"].to_list()
    )
    expected = torch.relu(z @ sae.W_enc)
    token, feature = expected.nonzero(as_tuple=True)
    assert codes["feature_id"].to_list() == feature.tolist()
    np.testing.assert_allclose(codes["activation"], expected[token, feature].detach(), rtol=1e-4)
    info = rows(path, "SELECT stream, fvu FROM saes")
    assert info["stream"][0] == "attention" and info["fvu"][0] < 1e-6


def test_texts_with_nul_bytes_lone_surrogates_and_special_tokens(
    config: IngestConfig, tmp_path: Path
) -> None:
    texts = ["a\0b \u0085 c", "half \ud83d of a pair", "before <|endoftext|> after", ""]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    path = tmp_path / "x.lens"
    make_store(path, replace(config, texts=str(tmp_path / "t.jsonl")))
    assert verify_store(path) == []
    stored = rows(path, "SELECT * FROM texts ORDER BY text_id")
    assert stored["text"].to_list() == ["a\0b \u0085 c", "half ? of a pair", texts[2], ""]
    assert stored["n_tokens"][3] == 0
    joined = rows(
        path,
        "SELECT text_id, list(token_bytes ORDER BY token_index) AS pieces FROM tokens "
        "JOIN contexts USING (run_id, context_id) GROUP BY text_id ORDER BY text_id",
    )
    for row in joined.iter_rows(named=True):
        assert b"".join(row["pieces"]).decode() == stored["text"][row["text_id"]]
    special = rows(path, "SELECT * FROM tokens WHERE is_special AND pos > 0")
    assert special["token"].to_list() == ["<|endoftext|>"]
    assert special["is_masked"].all()


def test_a_very_long_line_is_split_over_contexts(config: IngestConfig, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("word " * 3000)
    path = tmp_path / "x.lens"
    make_store(path, replace(config, texts=str(tmp_path / "t.txt"), energies="output"))
    contexts = rows(path, "SELECT * FROM contexts ORDER BY context_id")
    assert contexts["part"].to_list() == list(range(len(contexts))) and len(contexts) > 200
    tokens = rows(path, "SELECT * FROM tokens ORDER BY token_index")
    assert tokens["energy"].null_count() == 1
    assert b"".join(tokens["token_bytes"].to_list()) == b"word " * 3000


def test_half_precision_models_are_read_out_in_float32(
    config: IngestConfig, gpt2_dir: Path, tmp_path: Path
) -> None:
    model = load_model(str(gpt2_dir), dtype="bfloat16")
    assert model.readout.W_U.dtype == torch.float32
    h = torch.randn(4, D_MODEL).bfloat16()
    assert lens_energies(model.readout, h, torch.arange(4)).energy.dtype == torch.float32
    path = tmp_path / "x.lens"
    make_store(path, replace(config, dtype="bfloat16", saes=()))
    assert rows(path, "SELECT dtype FROM runs")["dtype"][0] == "bfloat16"


@pytest.mark.parametrize("name", ["tokens", "codes"])
def test_a_run_without_saes_has_empty_feature_tables(
    config: IngestConfig, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "x.lens"
    make_store(path, replace(config, saes=()))
    n = rows(path, f"SELECT count(*) AS n FROM {name}")["n"][0]
    assert (n > 0) == (name == "tokens")
