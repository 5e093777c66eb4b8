"""Models that somebody else has made: each is loaded or told to be none, by a sentence and soon."""

import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForConditionalGeneration

from energylens.errors import ModelError, UsageError
from energylens.ingest import plan
from energylens.ingest.plan import IngestConfig
from energylens.lens.model_files import check_built
from energylens.lens.models import LanguageModel
from energylens.queries.display import visible_lines
from tests.hostile.conftest import N_CASES
from tests.hostile.mutate import mutated
from tests.hostile.test_stores import within_time

JSON = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def whole(request: pytest.FixtureRequest, gpt2_dir: Path, llama_dir: Path) -> Path:
    return {"gpt2": gpt2_dir, "llama": llama_dir}[request.param]


@pytest.fixture
def folder(gpt2_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt2_dir, tmp_path / "model"))


def load(folder: Path) -> LanguageModel | str:
    """The model, with which a run over a text could begin, or what is said; anything else that is
    raised is a defect."""
    (texts := folder.parent / "texts.jsonl").write_text('{"text": "The cat sat. 🐕"}\n')
    with within_time():
        try:
            return plan.load(IngestConfig(str(folder), str(texts))).instruments.model
        except UsageError as error:
            visible_lines(str(error)).encode()
            return str(error)


def said(folder: Path) -> str:
    found = load(folder)
    assert isinstance(found, str)
    return found


def changed(folder: Path, name: str, **changes: Any) -> None:
    raw = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps(raw))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*JSON, WEIGHTS])
def test_files_changed_anywhere(whole: Path, tmp_path: Path, name: str) -> None:
    folder, by = Path(shutil.copytree(whole, tmp_path / "model")), random.Random(name)
    content = (folder / name).read_bytes()
    if name == WEIGHTS:  # what is after the header is numbers
        end = 8 + int.from_bytes(content[:8], "little")
        head, rest = content[:end], content[end:]
    else:
        head, rest = content, b""
    for _ in range(max(6, N_CASES // 10)):
        (folder / name).write_bytes(mutated((head,), by) + rest)
        load(folder)


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, "x", "", [], {}, [[1]], 2**31, 10**12, 10**400, -(10**400), 1e308,
    float("nan"), float("inf"), "\ud800", "../../x", "\x1b]0;x\x07", {"": {"": 1}},
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_any_value_in_any_field(whole: Path, tmp_path: Path) -> None:
    folder, by = Path(shutil.copytree(whole, tmp_path / "model")), random.Random("fields")
    config = json.loads((folder / "config.json").read_text())
    fields = [*config, "rope_scaling", "rope_parameters", "quantization_config", "text_config",
              "layer_types", "attn_implementation", "auto_map", "tie_word_embeddings",
              "torch_dtype", "is_encoder_decoder", "architectures", "_name_or_path",
              "pad_token_id"]  # fmt: skip
    for _ in range(max(12, N_CASES // 5)):
        wrong = {by.choice(fields): by.choice(VALUES) for _ in range(by.choice((1, 1, 2)))}
        (folder / "config.json").write_text(json.dumps(config | wrong))
        load(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_layer": 10**12}, "n_layer: 1000000000000, which no model has"),
        ({"n_embd": 10**6}, "is that of a model with .* numbers, but its weights have"),
        ({"n_positions": 10**12}, "is that of a model with .* numbers"),
        ({"vocab_size": 10**10}, "is that of a model with .* numbers"),
        ({"vocab_size": 0}, "cannot be|holds no|do not fit"),
        ({"model_type": []}, "cannot be loaded"),
        ({"model_type": "gpt_neo", "attention_types": [[["global"], 10**12]]}, "attention_types"),
        ({"layer_norm_epsilon": "x"}, "fails on|cannot be"),
        ({"logit_scale": "x"}, "the GPT2LMHeadModel '.*' cannot be used: could not convert"),
    ],
)
def test_sizes_that_no_file_can_hold_are_told_before_they_are_made(
    folder: Path, changes: dict[str, Any], reason: str
) -> None:
    changed(folder, "config.json", **changes)
    found = said(folder)
    assert re.search(reason, found), found


@pytest.mark.parametrize(
    ("name", "number", "is_real"),
    [
        ("vocab_size_per_layer_input", 262_144, True), ("expert_intermediate_size", 65_536, True),
        ("dim_per_layer", 20_480, True), ("expert_capacity", 100_000, True),
        ("num_hidden_layers", 10**9, False), ("n_layer", 10**6, False),
        ("num_local_experts", 10**6, False), ("layer_sizes", {"count": 10**6}, False),
        ("layer_types", {"size": 10**6}, True),
    ],
)  # fmt: skip
def test_widths_may_be_large_and_counts_may_not(
    name: str, number: int | dict[str, int], is_real: bool
) -> None:
    for raw in ({name: number}, {"text_config": {name: number}}):
        if is_real:
            check_built(raw, "m")
        else:
            with pytest.raises(ModelError, match=f"{name}.*: 10{{6,9}}, which no model has"):
                check_built(raw, "m")


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
@pytest.mark.parametrize("name", JSON[:3])
def test_files_of_json_that_are_none(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert str(folder) in said(folder)


@pytest.mark.parametrize("length", [90_000_000, 2**63, 2**64 - 1, 0, 3])
def test_a_header_that_is_none_or_would_fill_the_memory(folder: Path, length: int) -> None:
    with (folder / WEIGHTS).open("wb") as file:
        file.write(length.to_bytes(8, "little") + b"{")
        file.truncate(min(length, 100_000_000) + 8)
    what = "declares a header of" if length > 3 else "cannot be loaded"
    assert what in said(folder)


@pytest.mark.parametrize("name", [*JSON, WEIGHTS, "chat_template.jinja", "vocab.json"])
def test_nobody_waits_for_a_pipe_or_reads_a_device(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "config.json" in said(folder) or "no plain file" in said(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert "config.json" in said(folder) or "no plain file" in said(folder)


def test_links_to_plain_files_are_followed_as_in_the_hubs_cache(
    folder: Path, gpt2_dir: Path
) -> None:
    for path in folder.iterdir():
        path.unlink()
        path.symlink_to(gpt2_dir / path.name)
    assert isinstance(load(folder), LanguageModel)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_a_list_of_shards_names_files_of_its_folder(folder: Path, name: str) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(weights, folder.parent / "other.safetensors", {"format": "pt"})
    (folder / WEIGHTS).unlink()
    listed = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(listed))
    assert "none of its folder" in said(folder)


def test_weights_of_odd_types_and_shapes(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    for name, value in (
        ("transformer.wte.weight", torch.zeros(0)),
        ("transformer.wte.weight", torch.zeros(300, 24, dtype=torch.int8)),
        ("transformer.h.0.attn.c_attn.weight", torch.zeros(1, dtype=torch.bool)),
        ("transformer.ln_f.weight", torch.zeros(24, dtype=torch.complex64)),
        ("\x1b]0;x\x07", torch.zeros(3)),
    ):
        save_file(weights | {name: value}, folder / WEIGHTS, {"format": "pt"})
        load(folder)


def test_an_encoder_decoder_gives_its_reason(tmp_path: Path) -> None:
    config = BartConfig(vocab_size=300, d_model=24, encoder_layers=1, decoder_layers=1,
                        encoder_attention_heads=2, decoder_attention_heads=2,
                        encoder_ffn_dim=32, decoder_ffn_dim=32)  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    assert "is a Bart, an encoder-decoder" in said(tmp_path)
