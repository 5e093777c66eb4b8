"""What is read of a model's files, and the reasons for which a model is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    BertConfig,
    BertLMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
)

from benchmarks.small_models import small_model
from energylens.errors import ModelError
from energylens.lens.checkpoints import context_length, reason_of
from energylens.lens.energy import lens_energies
from energylens.lens.models import load_model, run_hooks
from tests.conftest import make_gpt2, make_tokenizer


def _changed(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of a model with another config.json."""
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize("n_ctx", [1, 2, 5])
def test_a_context_shorter_than_the_load_check_is_read(
    n_ctx: int, save_model: Callable[..., Path]
) -> None:
    model = load_model(str(save_model(small_model("gpt2", n_positions=n_ctx))))
    assert model.n_ctx == n_ctx


@pytest.mark.parametrize(
    ("name", "spelled"),
    [("mpt", "max_seq_len"), ("gpt2", "n_positions"), ("llama", "max_position_embeddings"),
     ("gptj", "n_positions"), ("bloom", "seq_length")],
)  # fmt: skip
def test_the_context_length_is_found_by_any_name(
    name: str, spelled: str, save_model: Callable[..., Path]
) -> None:
    hf_model = small_model(name, **{spelled: 12})
    assert context_length(hf_model.config) == 12
    assert load_model(str(save_model(hf_model))).n_ctx == 12


@pytest.mark.parametrize("width", [16, 32])
def test_opt_without_a_final_norm_and_with_projections(
    width: int, save_model: Callable[..., Path]
) -> None:
    hf_model = small_model("opt", do_layer_norm_before=False, word_embed_proj_dim=width)
    model = load_model(str(save_model(hf_model)))
    assert model.readout.norm.kind == "none"
    ids = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    last = model.resid_post(model.n_layers - 1)
    _, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    with torch.no_grad():
        log_p = hf_model(ids).logits[:, :-1].log_softmax(-1)
    energy = -log_p.gather(-1, ids[:, 1:, None])[..., 0]
    found = lens_energies(model.readout, cache[last][:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(found.energy, energy.flatten(), rtol=1e-4, atol=1e-4)


def test_an_encoder_is_refused_because_it_is_not_causal(save_model: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, initializer_range=0.3,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"BertLMHeadModel .* is not causal") as error:
        load_model(str(save_model(BertLMHeadModel(config))))
    assert "transformer" not in str(error.value).replace(str(Path.cwd()), "")


def test_an_encoder_decoder_is_refused(save_model: Callable[..., Path]) -> None:
    config = T5Config(
        vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4
    )  # fmt: skip
    config.decoder_start_token_id = 0
    with pytest.raises(ModelError, match=r"is a T5, an encoder-decoder") as error:
        load_model(str(save_model(T5ForConditionalGeneration(config))))
    assert len(str(error.value)) < 300


def test_a_class_without_a_next_token_is_refused(tmp_path: Path) -> None:
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is a ViT, of which transformers .* makes no causal"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"model_type": "nonesuch"},
            "of the type 'nonesuch', which transformers .* does not know$",
        ),
        (
            {"model_type": "nonesuch", "auto_map": {"AutoConfig": "x.Y"}},
            "and the code it brings is not run",
        ),
        ({"model_type": None}, "of no type its config.json names"),
        ({"n_embd": 12}, "the shape .* in the file and .* in the configuration"),
        (
            {"n_layer": 5},
            "holds no weights for transformer.h.3.* and 23 more: they would be",
        ),
    ],
)
def test_a_config_that_does_not_fit_gives_a_reason(
    changes: dict[str, Any], reason: str, gpt2_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        load_model(str(_changed(gpt2_dir, tmp_path, **changes)))
    assert len(str(error.value)) < 400


def test_a_class_transformerlens_has_no_adapter_for_is_named(
    save_model: Callable[..., Path],
) -> None:
    with pytest.raises(ModelError, match=r"PhimoeForCausalLM.* has no adapter") as error:
        load_model(str(save_model(small_model("phimoe"))))
    assert len(str(error.value)) < 300


def test_a_wrapper_that_breaks_down_is_told_of(save_model: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="cannot run the GraniteMoeHybridForCausalLM"):
        load_model(str(save_model(small_model("granitemoehybrid"))))


def test_a_reason_in_a_later_line_is_kept() -> None:
    error = RuntimeError("Error(s) in loading state_dict for X:\n\tsize mismatch for W: 3 is not 4")
    assert "size mismatch for W: 3 is not 4" in reason_of(error)
    assert len(reason_of(ValueError("word " * 400))) < 410
    assert reason_of(ValueError()) == "ValueError"


def test_a_tokenizer_that_cuts_pads_or_merges_at_random_takes_texts_whole(
    save_model: Callable[..., Path],
) -> None:
    plain = make_tokenizer()
    definition = json.loads(plain.backend_tokenizer.to_str())
    definition["model"]["dropout"] = 0.5
    changed = Tokenizer.from_str(json.dumps(definition))
    changed.enable_truncation(4)
    changed.enable_padding(length=10)
    special = {"bos_token": plain.bos_token, "eos_token": plain.eos_token}
    folder = save_model(make_gpt2(), PreTrainedTokenizerFast(tokenizer_object=changed, **special))
    text = "The cat sat on the mat and looked at the other cat."
    backend = load_model(str(folder)).tokenizer.backend_tokenizer
    expected = plain(text, add_special_tokens=False)["input_ids"]
    assert backend.encode(text, add_special_tokens=False).ids == expected
    assert len(expected) > 4
