"""Loaded SAEs against sae-lens' own, for every architecture it can make."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens import SAE
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import save_file

from energylens.errors import SaeError, UsageError
from energylens.lens.gate import encode_tokens
from energylens.lens.models import load_model, run_hooks
from energylens.lens.saes import check_fit, load_saes, stream_of
from tests.conftest import make_gpt2, make_sae

HOOK = "blocks.1.hook_resid_post"
ARCHITECTURES = {
    "standard": ("StandardSAE", {}),
    "gated": ("GatedSAE", {}),
    "jumprelu": ("JumpReLUSAE", {}),
    "topk": ("TopKSAE", {"k": 4}),
    "abstopk": ("AbsTopKSAE", {"k": 4}),
    "matching_pursuit": ("MatchingPursuitSAE", {"max_iterations": 4}),
    "transcoder": ("Transcoder", {"d_out": 8, "apply_b_dec_to_input": False}),
    "skip_transcoder": ("SkipTranscoder", {"d_out": 8, "apply_b_dec_to_input": False}),
    "jumprelu_transcoder": ("JumpReLUTranscoder", {"d_out": 8, "apply_b_dec_to_input": False}),
    "jumprelu_skip_transcoder": (
        "JumpReLUSkipTranscoder",
        {"d_out": 8, "apply_b_dec_to_input": False},
    ),
    "temporal": ("TemporalSAE", {"n_heads": 2, "bottleneck_factor": 2, "kval_topk": 3}),
}


def make(name: str, normalize: str = "none") -> SAE[Any]:
    class_name, arguments = ARCHITECTURES[name]
    config = getattr(sae_lens, f"{class_name}Config")(
        d_in=8, d_sae=12, normalize_activations=normalize, metadata=SAEMetadata(hook_name=HOOK),
        **arguments,
    )  # fmt: skip
    sae = getattr(sae_lens, class_name)(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        if name == "matching_pursuit":
            sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)
    return sae.eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_encodes_as_sae_lens_does(name: str, tmp_path: Path) -> None:
    original = make(name)
    original.save_model(tmp_path / "sae")
    (loaded,) = load_saes([str(tmp_path / "sae")])
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = original.encode(x), loaded.encode(x)
    assert loaded.architecture == name
    torch.testing.assert_close(found, expected)
    assert (found != 0).any(), "a comparison of zeros shows nothing"
    everything = torch.ones(3, 5, dtype=torch.bool)
    with torch.no_grad():
        flat = encode_tokens(loaded, x, everything)
    torch.testing.assert_close(flat, expected.flatten(0, 1))


@pytest.mark.parametrize("normalize", ["layer_norm", "constant_norm_rescale"])
def test_normalisation_is_the_saes_own(normalize: str, tmp_path: Path) -> None:
    original = make("standard", normalize)
    original.save_model(tmp_path / "sae")
    (loaded,) = load_saes([str(tmp_path / "sae")])
    x = 7 * torch.randn(2, 3, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(x), original.encode(x))
        assert not torch.allclose(loaded.encode(x), make("standard").encode(x))


def test_padding_does_not_reach_a_temporal_sae(tmp_path: Path) -> None:
    make("temporal").save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae")])
    x = torch.randn(1, 4, 8)
    padded = torch.cat([x, 100 * torch.ones(1, 3, 8)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 3])
    with torch.no_grad():
        torch.testing.assert_close(encode_tokens(sae, padded, mask), sae.encode(x)[0])


def test_negative_codes_of_abs_top_k_survive(tmp_path: Path) -> None:
    make("abstopk").save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae")])
    with torch.no_grad():
        assert (sae.encode(torch.randn(1, 50, 8)) < 0).any()


def old_config(**changes: Any) -> dict[str, Any]:
    """A `cfg.json` as sae-lens wrote it before version 6."""
    return {
        "architecture": "standard", "d_in": 8, "d_sae": 12, "dtype": "float32", "device": "cpu",
        "hook_point": HOOK, "hook_point_layer": 1, "hook_point_head_index": None,
        "activation_fn_str": "relu", "model_name": "gpt2-small", "context_size": 128,
        "normalize_activations": "none", **changes,
    }  # fmt: skip


def save_old(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    folder.mkdir()
    weights = {k: v.detach().clone() for k, v in make("standard").state_dict().items()}
    save_file(weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(old_config(**changes)))
    return weights


def test_configurations_from_before_version_six(tmp_path: Path) -> None:
    weights = save_old(tmp_path / "old")
    (sae,) = load_saes([str(tmp_path / "old")])
    x = torch.randn(2, 3, 8)
    expected = torch.relu((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    torch.testing.assert_close(sae.encode(x), expected)
    assert (sae.hook_name, sae.prepend_bos, sae.context_size) == (HOOK, True, 128)


def test_centring_where_the_writing_weights_were_centred(tmp_path: Path) -> None:
    kwargs = {"center_writing_weights": True}
    weights = save_old(tmp_path / "centred", model_from_pretrained_kwargs=kwargs)
    (sae,) = load_saes([str(tmp_path / "centred")])
    x = torch.randn(2, 3, 8) + 2.0
    centred = x - x.mean(-1, keepdim=True)
    expected = torch.relu((centred - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    assert sae.centring
    torch.testing.assert_close(sae.encode(x), expected)
    torch.testing.assert_close(sae.encode(x + 3.0), expected, rtol=1e-4, atol=1e-4)


WRITES = (
    "hook_embed", "hook_pos_embed", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_mid",
    "blocks.2.hook_resid_post", "blocks.1.hook_attn_out", "blocks.1.hook_mlp_out",
)  # fmt: skip
OTHERS = (
    "blocks.1.attn.hook_z", "blocks.1.attn.hook_q", "blocks.1.attn.hook_v",
    "blocks.1.mlp.hook_post", "blocks.1.ln2.hook_normalized",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:\\s*This SAE has non-empty model_from")
def test_only_what_writes_to_the_stream_is_centred(
    save_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Beside a model whose writing weights were centred by hand."""
    plain, centred = make_gpt2(), make_gpt2()
    with torch.no_grad():
        writes = [centred.transformer.wte.weight, centred.transformer.wpe.weight]
        for name, parameter in centred.transformer.h.named_parameters():
            if "c_proj" in name:
                parameter += 2.0 * ("bias" in name) * torch.arange(parameter.shape[-1])
                writes.append(parameter)
        plain.load_state_dict(centred.state_dict())
        centred.lm_head.weight = torch.nn.Parameter(centred.lm_head.weight.clone())
        for weight in writes:
            weight -= weight.mean(-1, keepdim=True)
    centred.config.tie_word_embeddings = False
    kwargs = {"center_writing_weights": True}
    make_sae("standard", HOOK, model_from_pretrained_kwargs=kwargs).save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae")])
    ids = torch.tensor([[0, 5, 9, 200, 17]])
    one, other = (
        run_hooks(load_model(str(save_model(m))), ids, torch.ones_like(ids), {*WRITES, *OTHERS})[1]
        for m in (plain, centred)
    )
    for hook in (*WRITES, *OTHERS):
        there = replace(sae, hook_name=hook, target_hook=hook)
        assert there.centring == there.target_centring == (hook in WRITES)
        for prepared in (there.prepare(one[hook]), there.prepare_target(one[hook])):
            torch.testing.assert_close(prepared, other[hook].flatten(2), rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:\\s*This SAE has non-empty model_from")
def test_a_transcoder_centres_either_side_by_its_own_hook(tmp_path: Path) -> None:
    kwargs = {"center_writing_weights": True}
    make_sae(
        "standard", "blocks.0.ln2.hook_normalized", d_in=8, d_sae=16,
        hook_name_out="blocks.0.hook_mlp_out", model_from_pretrained_kwargs=kwargs,
    ).save_model(tmp_path / "sae")  # fmt: skip
    (sae,) = load_saes([str(tmp_path / "sae")])
    x = torch.randn(2, 3, 8) + 2.0
    torch.testing.assert_close(sae.prepare(x), x)
    torch.testing.assert_close(sae.prepare_target(x), x - x.mean(-1, keepdim=True))


def test_a_file_names_its_folder(tmp_path: Path) -> None:
    make("topk").save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae/sae_weights.safetensors")])
    assert (sae.sae_id, sae.architecture, sae.declared_l0) == ("sae", "topk", 4.0)


def test_a_folder_of_saes_gives_them_all_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make("standard").save_model(tmp_path / name)
    assert [sae.sae_id for sae in load_saes([str(tmp_path)])] == ["a", "b"]


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(SaeError, match="no SAE at"):
        load_saes(["./nowhere"])
    with pytest.raises(SaeError, match=r"holds no cfg\.json"):
        load_saes([str(tmp_path)])
    with pytest.raises(SaeError, match="knows no release"):
        load_saes(["no-such-release/blocks.0"])
    with pytest.raises(SaeError, match=r"did you mean gpt2-small-res-jb[,?]"):
        load_saes(["gpt2-small-res-jv/blocks.8.hook_resid_pre"])
    with pytest.raises(SaeError, match=r"has no SAE .*did you mean blocks\.9\.hook_resid_pre"):
        load_saes(["gpt2-small-res-jb/blocks.99.hook_resid_pre"])
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(SaeError, match="cannot be loaded"):
        load_saes([str(tmp_path)])


def test_a_folder_given_as_the_one_we_are_in_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("standard").save_model(tmp_path / "sae")
    monkeypatch.chdir(tmp_path / "sae")
    assert [sae.sae_id for sae in load_saes(["."])] == ["sae"]


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    sae = make_sae("standard", HOOK)
    with torch.no_grad():
        sae.W_dec[3, 3] = torch.nan
    sae.save_model(tmp_path / "sae")
    with pytest.raises(SaeError, match="NaN or infinity in W_dec"):
        load_saes([str(tmp_path / "sae")])


def test_another_width_is_refused(tmp_path: Path) -> None:
    make("standard").save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae")])
    with pytest.raises(SaeError, match=r"width 8.*has width 24"):
        check_fit(sae, torch.zeros(1, 2, 24))


@pytest.mark.parametrize(
    ("hook", "stream"),
    [
        ("blocks.3.hook_resid_pre", "residual"),
        ("blocks.3.hook_attn_out", "attention"),
        ("blocks.3.attn.hook_z", "attention"),
        ("blocks.3.hook_mlp_out", "mlp"),
        ("blocks.3.ln2.hook_normalized", "mlp"),
        ("hook_embed", "other"),
    ],
)
def test_streams(hook: str, stream: str) -> None:
    assert stream_of(hook) == stream


@pytest.mark.hub
def test_published_activations_of_gpt2_small_res_jb() -> None:
    from energylens.lens.models import load_model, run_hooks

    model = load_model("gpt2")
    (sae,) = load_saes(["gpt2-small-res-jb/blocks.10.hook_resid_pre"])
    ids = torch.tensor([[50256, *model.tokenizer.encode("My cat is sleeping on the couch.")]])
    _, cache = run_hooks(model, ids, torch.ones_like(ids), [sae.hook_name])
    with torch.no_grad():
        activation = sae.encode(cache[sae.hook_name])[0, :, 16899]
    assert 54.0 <= activation[2] <= 61.5
    assert activation[3] == pytest.approx(0.92, abs=0.1)


@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu"])
def test_write_directions_are_what_decoding_adds(kind: str, tmp_path: Path) -> None:
    make_sae(kind, HOOK).save_model(tmp_path / "x")
    (sae,) = load_saes([str(tmp_path / "x")])
    nothing = sae.module.decode(torch.zeros(1, 32))
    one = sae.module.decode(torch.eye(32)) - nothing
    torch.testing.assert_close(sae.write_directions, one)


def test_one_of_the_bundled_saes_is_named_behind_a_slash() -> None:
    (one,) = load_saes(["builtin:llama/blocks.1.hook_resid_post"])
    assert (one.sae_id, one.hook_name) == ("blocks.1.hook_resid_post",) * 2
    assert "blocks.1.hook_resid_post" in {sae.sae_id for sae in load_saes(["builtin:llama"])}
    for wrong in ("builtin:llama/blocks.9", "builtin:llama/../mesanet", "builtin:llama/."):
        with pytest.raises(SaeError, match=r"there are: blocks\.0\.hook_resid_post, "):
            load_saes([wrong])
    for wrong in ("builtin:lama", "builtin:../saes/llama", "builtin:"):
        with pytest.raises(UsageError, match="there are: builtin:llama, builtin:mesanet"):
            load_saes([wrong])
