"""SAEs that somebody else has made: each loads and runs, or is told to be none."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from energylens.errors import SaeError
from energylens.lens.saes import Sae, load_saes
from tests.conftest import N_CTX, make_sae
from tests.hostile.conftest import N_CASES, json_values

KINDS = {kind: kind for kind in ("standard", "topk", "jumprelu")}
FIELDS = [
    "architecture", "d_in", "d_sae", "dtype", "device", "k", "apply_b_dec_to_input", "metadata",
    "normalize_activations", "reshape_activations", "declared_l0", "rescale_acts_by_decoder_norm",
    "activation_fn", "activation_fn_kwargs", "sae_lens_version", "hook_name", "num_latents",
]  # fmt: skip
METADATA = [
    "hook_name", "hook_name_out", "hook_head_index", "prepend_bos", "context_size", "declared_l0",
    "neuronpedia_id", "model_from_pretrained_kwargs", "sae_lens_version", "model_name", "get",
    "__class__", "items",
]  # fmt: skip
USUAL = [
    "standard", "topk", "gated", "jumprelu", "temporal", "transcoder", "float16", "bfloat16",
    "float64", "int8", "cuda", "meta", "layer_norm", "expected_average_only_in", "hook_z", "5.0.0",
    "not.a.version", 0, 1, -1, 24, 31, 10**6, 10**12, 1.5, True, [], {}, None,
    "blocks.1.attn.hook_z", {"center_writing_weights": [1]},
]  # fmt: skip
values: st.SearchStrategy[Any] = st.sampled_from(USUAL) | json_values

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("saes")
    for kind in KINDS:
        make_sae(kind, "blocks.1.hook_resid_post").save_model(root / kind)
    yield root


def load(folder: Path) -> Sae | str:
    """The SAE, which has run, or what is said; anything else raised is a defect."""
    try:
        (sae,) = load_saes([str(folder)])
    except SaeError as error:
        return str(error)
    x = torch.randn(1, 2, sae.d_in)
    if sae.head is None:
        with torch.no_grad():
            sae.reconstruct(x)
    assert sae.context_size is None or sae.context_size > 0
    assert sae.declared_l0 is None or 0 <= sae.declared_l0 < float("inf")
    for text in (sae.sae_id, sae.hook_name, sae.target_hook, sae.neuronpedia_id or ""):
        assert text.encode().decode() == text
    return sae


def changed(saes: Path, kind: str, content: bytes) -> Sae | str:
    folder = saes / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saes / kind, folder)
    (folder / "cfg.json").write_bytes(content)
    return load(folder)


@settings(max_examples=N_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(list(KINDS)),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=3),
    st.dictionaries(st.sampled_from(METADATA), values, max_size=3),
)
def test_any_value_in_any_field(
    saes: Path, kind: str, fields: dict[str, Any], metadata: dict[str, Any]
) -> None:
    raw = json.loads((saes / kind / "cfg.json").read_text())
    raw["metadata"] |= metadata
    changed(saes, kind, json.dumps(raw | fields).encode())


@settings(max_examples=N_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bytes_changed_anywhere(saes: Path, data: st.DataObject) -> None:
    content = bytearray((saes / "topk" / "cfg.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    changed(saes, "topk", bytes(content[: data.draw(st.integers(0, len(content)))]))


DTYPES = [
    torch.float16, torch.float64, torch.int32, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.float8_e4m3fn,
]  # fmt: skip


@settings(max_examples=N_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(list(KINDS)), st.sampled_from(["W_enc", "W_dec", "b_enc", "b_dec", "other"]),
    st.sampled_from(DTYPES) | st.none(), st.lists(st.sampled_from([0, 1, 24, 32]), max_size=3),
    st.sampled_from(["sae_weights.safetensors", "sae.safetensors"]),
)  # fmt: skip
def test_weights_of_any_shape_and_type(
    saes: Path, kind: str, name: str, dtype: Any, shape: list[int], file: str
) -> None:
    folder = saes / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saes / kind, folder)
    weights = load_file(folder / "sae_weights.safetensors")
    if dtype is None:
        weights.pop(name, None)
    else:
        weights[name] = torch.zeros(shape).to(dtype)
    save_file(weights, folder / file)
    load(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metadata", [], "'metadata' of its cfg.json is no JSON object"),
        ("metadata", {"hook_name": 5}, "Expected `str`, got `int` - at `$.hook_name`"),
        ("metadata", {"context_size": "many"}, "$.context_size"),
        ("metadata", {"context_size": 0}, "$.context_size"),
        ("metadata", {"prepend_bos": [1]}, "$.prepend_bos"),
        ("metadata", {"hook_name": "\udcff"}, "surrogates"),
        ("metadata", {"model_from_pretrained_kwargs": 5}, "$.model_from"),
        ("declared_l0", "few", "$.declared_l0"),
        ("declared_l0", float("nan"), "$.declared_l0"),
        ("declared_l0", float("inf"), "declares an L0 of inf"),
        ("k", 33, "does not run"),
        ("k", -1, "$.declared_l0"),
        ("k", "many", "$.declared_l0"),
        ("sae_lens_version", "not.a.version", "cannot be loaded"),
    ],
)
def test_what_is_wrong_is_said(saes: Path, field: str, value: Any, message: str) -> None:
    raw = json.loads((saes / "topk" / "cfg.json").read_text())
    if isinstance(value, dict):
        value = raw[field] | value
    found = changed(saes, "topk", json.dumps(raw | {field: value}).encode())
    assert isinstance(found, str) and message in found


@pytest.mark.parametrize(
    "content", [b"[]", b"5", b"", b"\xff", b'{"k": ' + b"1" * 5000 + b"}", b'{"d_in":' * 100_000]
)
def test_configurations_that_are_none(saes: Path, content: bytes) -> None:
    assert "cannot be loaded" in str(changed(saes, "topk", content))


def test_a_header_that_would_fill_the_memory_is_not_read(saes: Path, tmp_path: Path) -> None:
    shutil.copytree(saes / "topk", tmp_path / "bomb")
    header = b'{"a": ' + b" " * 90_000_000 + b"}"
    weights = tmp_path / "bomb" / "sae_weights.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "declares a header of 90,000,007 bytes" in str(load(tmp_path / "bomb"))


def test_a_name_that_is_not_utf8_is_said(saes: Path, tmp_path: Path) -> None:
    shutil.copytree(saes / "topk", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert "not UTF-8; rename it" in str(load(tmp_path))


def test_what_a_maker_declares_is_read_as_it_is(saes: Path) -> None:
    found = load(saes / "topk")
    assert isinstance(found, Sae)
    assert (found.declared_l0, found.context_size, found.prepend_bos) == (16.0, N_CTX, True)
