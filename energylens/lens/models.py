"""Load a Hugging Face causal language model and run it with the field's hook names."""

import copy
import difflib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from energylens.builtin import builtin_path
from energylens.errors import ModelError
from energylens.lens.experts import Mixtures, watch
from energylens.lens.readout import ReadOut, probe_norm
from energylens.mesanet.hooked import HookedMesaNet
from energylens.mesanet.model import MesaNetForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model; weights as published, nothing folded or centred."""

    source: str
    """What was asked for: a directory, a hub name, or builtin:..."""
    bridge: TransformerBridge | HookedMesaNet
    tokenizer: Any
    """A PreTrainedTokenizerBase, as published; the bridge may add tokens to its own copy."""
    revision: str | None
    """Commit on the hub; None for a local model."""
    n_layers: int
    d_model: int
    n_ctx: int
    """Most tokens the model takes at once."""
    dtype: str
    readout: ReadOut
    sample: Int[Tensor, "1 pos"]
    """The few tokens that model and wrapper were compared on."""
    mixtures: Mixtures
    """Its mixtures of experts; none in a dense model."""

    @property
    def hf_model(self) -> Any:
        """The Hugging Face model itself."""
        return self.bridge.original_model

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 over its weights."""
        return sha256_of(self.hf_model.state_dict().items())

    @property
    def model_class(self) -> str:
        """Class of the Hugging Face model."""
        return type(self.hf_model).__name__

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text; None where the tokenizer has none. It may be 0."""
        return self.tokenizer.bos_token_id

    def resid_post(self, layer: int) -> str:
        """The hook of the residual stream after a block; layer -1 is before the first."""
        return "blocks.0.hook_resid_pre" if layer < 0 else f"blocks.{layer}.hook_resid_post"

    def check_hook(self, hook_name: str) -> None:
        """Make sure the model has a hook, and switch it on where it is off by default.

        Raises:
            ModelError: there is no such hook; the message names the closest ones.
        """
        if hook_name not in self.bridge.hook_dict:
            close = difflib.get_close_matches(hook_name, self.bridge.hook_dict, n=3, cutoff=0.5)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise ModelError(
                f"the model '{self.source}' has no hook '{hook_name}' "
                f"(it has {self.n_layers} blocks of width {self.d_model}){hint}"
            )
        if isinstance(self.bridge, HookedMesaNet):
            return
        if hook_name.endswith("hook_mlp_in"):
            self.bridge.set_use_hook_mlp_in(True)
        elif hook_name.endswith("attn.hook_result"):
            self.bridge.set_use_attn_result(True)


def load_model(source: str, dtype: str = "float32", device: str = "cpu") -> LanguageModel:
    """Load a model and its tokenizer from a directory, the hub, or what is bundled.

    Only safetensors weights are read and no code of the model's repository is run.

    Raises:
        ModelError: it cannot be found, read or understood, or its weights hold NaN.
    """
    where = _resolve(source)
    if dtype not in DTYPES:
        raise ModelError(f"unknown number format '{dtype}'; there are: {', '.join(DTYPES)}")
    try:
        hf_model = AutoModelForCausalLM.from_pretrained(
            where, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError, RuntimeError and others
        raise ModelError(_load_message(source, where, error)) from error
    _check_weights(hf_model, source)
    hf_model.eval()
    sample = torch.arange(8)[None] % hf_model.config.get_text_config().vocab_size
    with torch.no_grad(), watch(hf_model) as watched:
        expected = hf_model(sample).logits.float()
    config = hf_model.config.get_text_config()
    if isinstance(hf_model, MesaNetForCausalLM):
        bridge: Any = HookedMesaNet(hf_model)
        shape = (config.num_hidden_layers, config.hidden_size, config.max_position_embeddings)
        readout = _readout(hf_model.ln_final, hf_model.lm_head, config)
    else:
        bridge = _wrapped(source, where, hf_model, tokenizer, device)
        shape = (int(bridge.cfg.n_layers), int(bridge.cfg.d_model), int(bridge.cfg.n_ctx))
        readout = _readout(
            bridge.ln_final.original_component,
            bridge.unembed.original_component,
            config,
            float(bridge.cfg.eps),
        )
    model = LanguageModel(
        source=source,
        bridge=bridge,
        tokenizer=tokenizer,
        revision=getattr(hf_model.config, "_commit_hash", None),
        n_layers=shape[0],
        d_model=shape[1],
        n_ctx=shape[2],
        dtype=dtype,
        readout=readout,
        sample=sample,
        mixtures=watched.mixtures(sample.numel()),
    )
    _check_logits(model, sample, expected)
    return model


def run_hooks(
    model: LanguageModel,
    ids: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
    hook_names: Iterable[str],
    stop_at_layer: int | None = None,
    edits: Sequence[tuple[str, Callable[..., Any]]] = (),
) -> tuple[Float[Tensor, "batch pos d_vocab"] | None, dict[str, Tensor]]:
    """One forward pass: logits, and the activation at each hook.

    `stop_at_layer` ends the pass before that block; logits are None then. `edits` are hooks that
    may replace the value at their place; what is returned of that place is the edited value.
    """
    names = set(hook_names)
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=list(edits)):
        logits, cache = model.bridge.run_with_cache(
            ids,
            attention_mask=attention_mask,
            names_filter=lambda name: name in names,
            stop_at_layer=stop_at_layer,
        )
    stopped = stop_at_layer is not None
    return (None if stopped else logits), {name: cache[name] for name in names}


def sha256_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over named tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}:{flat.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """SHA-256 over a tokenizer's whole definition."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"the tokenizer {type(tokenizer).__name__} gives no offsets; a model with a "
            "tokenizer.json is needed"
        )
    return hashlib.sha256(backend.to_str().encode()).hexdigest()


def _resolve(source: str) -> str:
    if source.startswith("builtin:"):
        return str(builtin_path("models", source))
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"'{source}' holds no config.json, so it is no Hugging Face model")
        return str(path)
    if path.exists() or source.startswith((".", "/", "~")):
        raise ModelError(f"'{source}' is no directory with a Hugging Face model")
    return source


def _load_message(source: str, where: str, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(where).is_dir():
        return f"the model in '{source}' cannot be loaded: {first_line}"
    return (
        f"the model '{source}' is no directory here and could not be had from the hub "
        f"({first_line}); check the name and the network, or give a directory"
    )


def _check_weights(hf_model: Any, source: str) -> None:
    for name, parameter in hf_model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(
                f"the weights of '{source}' hold NaN or infinity in {name}; "
                "the file is damaged or was made so; fetch or train it again"
            )


def _check_logits(
    model: LanguageModel, ids: Int[Tensor, "1 pos"], expected: Float[Tensor, "1 pos d_vocab"]
) -> None:
    """Make sure the wrapped model and the lens at its last layer both compute what the model did.

    Architectures differ in ways (softcap, logit scale, parallel blocks, rotary conventions) that
    a wrapper may miss; a wrong one would spoil every row without a sign.
    """
    last = model.resid_post(model.n_layers - 1)
    logits, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    assert logits is not None, "the pass was not stopped early"
    tolerance = 1e-3 if model.dtype == "float32" else 0.25
    for what, found in (
        ("TransformerLens' wrapper", logits.float()),
        ("the logit lens at the last layer", model.readout.logits(cache[last][0])[None]),
    ):
        gap = float((found - expected).abs().max())
        if not gap <= tolerance * max(1.0, float(expected.abs().max())):
            raise ModelError(
                f"{what} computes other logits than the {model.model_class} '{model.source}' "
                f"itself (off by {gap:.2g}), so nothing measured through it could be trusted; "
                "this architecture needs another version of transformer-lens"
            )


def _wrapped(
    source: str, where: str, hf_model: Any, tokenizer: Any, device: str
) -> TransformerBridge:
    try:
        bridge = TransformerBridge.boot_transformers(
            where, hf_model=hf_model, tokenizer=copy.deepcopy(tokenizer), device=device
        )
    except Exception as error:
        raise ModelError(
            f"'{source}' is a {type(hf_model).__name__}, which TransformerLens cannot wrap: {error}"
        ) from error
    bridge.eval()
    return bridge


def _readout(norm_module: Any, head: Any, config: Any, eps: float = 1e-6) -> ReadOut:
    eps = _first(norm_module, ("eps", "variance_epsilon", "epsilon")) or eps
    weight, bias = head.weight.detach(), getattr(head, "bias", None)
    norm = probe_norm(norm_module, weight.shape[1], eps, weight.dtype)
    scale = _first(config, ("logit_scale",)) or 1.0 / (_first(config, ("logits_scaling",)) or 1.0)
    return ReadOut(
        norm=norm,
        W_U=weight.float().T,
        b_U=None if bias is None or not bias.any() else bias.detach().float(),
        logit_scale=scale,
        softcap=_first(config, ("final_logit_softcapping",)),
    )


def _first(holder: Any, names: Sequence[str]) -> float | None:
    for name in names:
        value = getattr(holder, name, None)
        if value is not None:
            return float(value)
    return None
