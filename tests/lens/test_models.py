"""Loaded models against transformers' own outputs."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
)

from energylens.errors import HubError, ModelError
from energylens.lens.energy import lens_energies
from energylens.lens.models import LanguageModel, load_model, run_hooks
from tests.conftest import SHARED, VOCAB, make_gpt2, make_llama

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}


def make(name: str) -> Any:
    torch.manual_seed(3)
    grouped: dict[str, Any] = {"num_key_value_heads": 1, "head_dim": 12}
    model = {
        "gpt2": lambda: make_gpt2(),
        "llama": lambda: make_llama(),
        "gemma2": lambda: Gemma2ForCausalLM(
            Gemma2Config(**SIZES, **grouped, final_logit_softcapping=2.0, query_pre_attn_scalar=12)
        ),
        "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, bos_token_id=0, eos_token_id=0)),
        "cohere": lambda: CohereForCausalLM(
            CohereConfig(**SIZES, num_key_value_heads=1, logit_scale=0.2, pad_token_id=0)
        ),
    }[name]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key or "ln_" in key:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "neox"])
def test_last_layer_lens_is_the_models_log_probability(
    name: str, save_model: Callable[..., Path]
) -> None:
    hf_model = make(name)
    model = load_model(str(save_model(hf_model)))
    ids = torch.randint(0, VOCAB, (3, 10), generator=torch.Generator().manual_seed(0))
    last = model.resid_post(model.n_layers - 1)
    _, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    with torch.no_grad():
        logits = hf_model(ids).logits
    log_p = logits[:, :-1].double().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    found = lens_energies(model.readout, cache[last][:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(found.energy.double(), -log_p.flatten(), rtol=1e-4, atol=1e-4)


def test_a_wrapper_that_computes_other_logits_is_refused(
    save_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(make("llama"))
    boot = TransformerBridge.boot_transformers

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        bridge: Any = boot(*args, **kwargs)
        with torch.no_grad():
            bridge.original_model.model.layers[0].mlp.down_proj.weight.mul_(1.5)
        return bridge

    monkeypatch.setattr(TransformerBridge, "boot_transformers", spoiled)
    with pytest.raises(ModelError, match="computes other logits"):
        load_model(str(folder))


def test_cohere_is_right_or_refused(save_model: Callable[..., Path]) -> None:
    """transformer-lens 3.9.0 computes other logits for it; a later version may not."""
    hf_model = make("cohere")
    folder = save_model(hf_model)
    try:
        model = load_model(str(folder))
    except ModelError as error:
        assert "computes other logits" in str(error)
        return
    assert model.readout.logit_scale == 0.2


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_hooks_are_the_hidden_states_of_transformers(
    name: str, save_model: Callable[..., Path]
) -> None:
    hf_model = make(name)
    model = load_model(str(save_model(hf_model)))
    ids = torch.randint(0, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    names = [model.resid_post(layer) for layer in range(-1, model.n_layers)]
    _, cache = run_hooks(model, ids, torch.ones_like(ids), [*names, "blocks.1.hook_resid_pre"])
    with torch.no_grad():
        states = hf_model(ids, output_hidden_states=True).hidden_states
    for name_, state in zip(names[:-1], states[:-1], strict=True):
        torch.testing.assert_close(cache[name_], state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cache["blocks.1.hook_resid_pre"], states[1], rtol=1e-5, atol=1e-5)
    normed = model.readout.norm(cache[names[-1]].flatten(0, 1))  # transformers norms the last one
    torch.testing.assert_close(normed, states[-1].flatten(0, 1), rtol=1e-4, atol=1e-4)


def test_stopping_early_gives_the_same_activations(gpt2: LanguageModel) -> None:
    ids = torch.randint(0, VOCAB, (2, 8))
    hook = "blocks.1.hook_resid_post"
    _, whole = run_hooks(gpt2, ids, torch.ones_like(ids), [hook])
    logits, stopped = run_hooks(gpt2, ids, torch.ones_like(ids), [hook], stop_at_layer=2)
    assert logits is None
    torch.testing.assert_close(whole[hook], stopped[hook])


def test_bos_with_id_zero_is_a_bos(gpt2: LanguageModel) -> None:
    assert gpt2.bos_id == 0


def test_a_tokenizer_without_bos_gets_none() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the shared models")
    assert load_model(str(SHARED / "models/gpt-nano-sort-hf")).bos_id is None


def test_unknown_hook_names_the_closest(gpt2: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"no hook 'blocks.7.hook_resid_post'.*did you mean"):
        gpt2.check_hook("blocks.7.hook_resid_post")


def test_weights_with_nan_are_refused(save_model: Callable[..., Path]) -> None:
    hf_model: Any = make_gpt2()
    with torch.no_grad():
        hf_model.transformer.h[1].mlp.c_fc.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"NaN or infinity in transformer\.h\.1\.mlp"):
        load_model(str(save_model(hf_model)))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(str(tmp_path))


def test_a_missing_path_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(ModelError, match="no directory"):
        load_model("./nowhere")
    with pytest.raises(HubError, match=r"the model .* cannot be reached"):
        load_model("someone/no-such-model")


def test_pickled_weights_are_not_read(save_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_model(make_gpt2())
    (folder / "model.safetensors").unlink()
    torch.save(make_gpt2().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared models")
def test_stories_model_tells_its_published_story() -> None:
    model = load_model(str(SHARED / "models/stories260K-hf"))
    ids = torch.tensor([[1]])
    out = model.hf_model.generate(ids, max_new_tokens=60, do_sample=False)
    text = model.tokenizer.decode(out[0], skip_special_tokens=True)
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park. One day, she saw a big, red ball."
    )


GOLDEN_HOOKS = {
    "hook_embed": "tok_emb",
    "blocks.0.hook_resid_pre": "x",
    "blocks.0.ln1.hook_out": "ln1",
    "blocks.0.attn.hook_pattern": "attSm",
    "blocks.0.hook_attn_out": "yProj",
    "blocks.0.hook_resid_mid": "attnResid",
    "blocks.0.ln2.hook_out": "ln2",
    "blocks.0.mlp.hook_pre": "fc",
    "blocks.0.mlp.hook_post": "gelu",
    "blocks.0.hook_mlp_out": "mlp",
    "blocks.0.hook_resid_post": "block0",
    "blocks.1.hook_resid_post": "block1",
    "blocks.2.hook_resid_post": "block2",
    "ln_final.hook_out": "ln_f",
}
"""Hook names, and what the other implementation calls the same numbers."""


def _decoded(entry: dict[str, Any]) -> torch.Tensor:
    data = np.frombuffer(base64.b64decode(entry["data"]), dtype="<f4")
    return torch.from_numpy(data.copy()).reshape(entry["shape"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared models")
def test_nano_activations_equal_another_implementations() -> None:
    golden = json.loads((SHARED / "models/golden/gpt-nano-sort-t0-partials.json").read_text())
    model = load_model(str(SHARED / "models/gpt-nano-sort-hf"))
    ids = _decoded(golden["idx"]).long()
    expected = {hook: _decoded(golden[key]) for hook, key in GOLDEN_HOOKS.items()}
    for heads in ("q", "k", "v"):  # there [batch, head, pos, d_head], here [batch, pos, head, ...]
        expected[f"blocks.0.attn.hook_{heads}"] = _decoded(golden[heads]).transpose(1, 2)
    expected["blocks.0.attn.hook_z"] = _decoded(golden["y"]).unflatten(-1, (3, 16))
    with torch.no_grad():  # not by run_hooks: the attention pattern has no row for each token
        _, cache = model.bridge.run_with_cache(ids, names_filter=lambda name: name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(cache[name], value, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("hook", ["hook_pattern", "hook_attn_scores"])
def test_a_hook_without_a_vector_for_each_token_is_refused(gpt2: LanguageModel, hook: str) -> None:
    ids = torch.arange(10).reshape(2, 5)
    with pytest.raises(ModelError, match=f"{hook}' has no vector for each token: .* 2 x 2 x 5 x 5"):
        run_hooks(gpt2, ids, torch.ones_like(ids), [f"blocks.0.attn.{hook}"])
