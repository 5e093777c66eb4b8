"""Attention of a context on request, and the sources of a feature, against passes by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from energylens.errors import EnergyLensError
from energylens.ingest.on_request.attention import attention, sources
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.lens.models import read_hooks
from energylens.protocol import AttentionRequest, SourcesRequest
from energylens.wire import decode, encode
from tests.conftest import D_MODEL, make_gpt2, make_llama, make_sae, make_store

HOOKS = {
    "z": "blocks.1.attn.hook_z",
    "out": "blocks.1.hook_attn_out",
    "mlp": "blocks.1.hook_mlp_out",
}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def reopened(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    save_model: Callable[..., Path],
    texts_dir: Path,
) -> Reopened:
    root = tmp_path_factory.mktemp("attention")
    for name, hook in HOOKS.items():
        sae = make_sae("standard", hook, D_MODEL, 48)
        if name == "z":
            sae.cfg.reshape_activations = "hook_z"
        sae.save_model(root / "saes" / name)
    model = make_gpt2() if request.param == "gpt2" else make_llama()
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if weight_name.endswith("bias"):
                weight.add_(0.1)
    config = IngestConfig(
        model=str(save_model(model)), texts=str(texts_dir), saes=(str(root / "saes"),),
        energies="output", accept_gate=True,
    )  # fmt: skip
    run = make_store(root / "x.lens", config, with_index=False)
    return reopen(root / "x.lens", run)


def test_attention_of_a_stored_context_is_what_the_model_pays(reopened: Reopened) -> None:
    found = attention(reopened, AttentionRequest(1, 1, context_id=2), Progress())
    by_text = attention(reopened, AttentionRequest(1, 1, text="Fish."), Progress())
    ids = torch.tensor([reopened.context("Fish.").ids])
    name = "blocks.1.attn.hook_pattern"
    cache = read_hooks(reopened.model, ids, [name])
    for at, row in enumerate(by_text.pattern):
        assert row == pytest.approx(cache[name][0, 1, at, : at + 1].tolist(), abs=1e-6)
    assert by_text.kind == "attention" and len(found.tokens) == len(found.pattern) > 1
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in found.pattern)
    assert decode(type(found), json.loads(encode(found))) == found


@pytest.mark.parametrize("sae_id", ["z", "out"])
def test_shares_and_rest_are_the_activation(reopened: Reopened, sae_id: str) -> None:
    sae = reopened.sae(sae_id)
    context = reopened.context("The cat sat on the mat.")
    ids = torch.tensor([context.ids])
    cache = read_hooks(reopened.model, ids, [sae.hook_name])
    x = cache[sae.hook_name][0, -1].flatten()
    codes = torch.relu(x @ sae.module.W_enc)
    feature = int(codes.argmax())
    asked = SourcesRequest(sae_id, feature, text="The cat sat on the mat.")
    found = sources(reopened, asked, Progress())
    assert found.activation == pytest.approx(float(codes[feature]), rel=1e-4)
    total = sum(map(sum, found.shares))
    bridge: Any = reopened.model.bridge
    bias = getattr(bridge.blocks[1].attn, "b_O", None) if sae_id == "out" else None
    column = sae.module.W_enc[:, feature].detach()
    rest = 0.0 if bias is None else (bias.detach() @ column).item()
    assert found.rest == pytest.approx(rest, abs=1e-4)
    assert total + found.rest == pytest.approx(found.activation, rel=1e-5)
    values = read_hooks(reopened.model, ids, ["blocks.1.attn.hook_v"])
    pattern = attention(reopened, AttentionRequest(1, 1, text=asked.text), Progress()).pattern[-1]
    value = values["blocks.1.attn.hook_v"][0].reshape(len(context.ids), -1, 12)[:, -1]
    read = column[12:] if sae_id == "z" else bridge.W_O[1, 1] @ column
    by_hand = (torch.tensor(pattern) * (value @ read)).tolist()
    assert found.shares[1] == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (AttentionRequest(3, 0, text="x"), "no layer 3"),
        (AttentionRequest(0, 2, text="x"), "no head 2"),
        (AttentionRequest(0, 0), "give context_id or text"),
        (AttentionRequest(0, 0, context_id=999), "no context 999"),
        (SourcesRequest("mlp", 1, text="x"), "not what attention puts out"),
        (SourcesRequest("z", 99, text="x"), "no feature 99"),
        (SourcesRequest("z", 1, position=9, text="x"), "no position 9"),
    ],
)
def test_what_there_is_not_is_said(
    reopened: Reopened, asked: AttentionRequest | SourcesRequest, said: str
) -> None:
    with pytest.raises(EnergyLensError, match=said):
        if isinstance(asked, AttentionRequest):
            attention(reopened, asked, Progress())
        else:
            sources(reopened, asked, Progress())


def test_a_silent_feature_is_said(reopened: Reopened) -> None:
    context = reopened.context("Fish.")
    ids = torch.tensor([context.ids])
    cache = read_hooks(reopened.model, ids, [HOOKS["z"]])
    codes = cache[HOOKS["z"]][0, -1].flatten() @ reopened.sae("z").module.W_enc
    asked = SourcesRequest("z", int(codes.argmin()), text="Fish.")
    with pytest.raises(EnergyLensError, match="is silent at position"):
        sources(reopened, asked, Progress())
