"""Load a Hugging Face causal language model and run it with the field's hook names."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from energylens.choices import did_you_mean
from energylens.errors import EnergyLensError, ModelError, UsageError
from energylens.lens.checkpoints import Loaded, context_length, load_checkpoint, reason_of
from energylens.lens.experts import Mixtures, watch
from energylens.lens.readout import ReadOut, no_norm, probe_norm
from energylens.lens.rope import Regime, regimes
from energylens.mesanet.hooked import HookedMesaNet
from energylens.mesanet.model import MesaNetForCausalLM

_SAMPLE_TOKENS = 8
_DEFAULT_N_CTX = 2048
"""Where a configuration names no length: recurrent models and ALiBi take any."""


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
    regime: Callable[[int], Regime]
    """What a context's length decides of how it is read; others may not share its pass."""
    quantisation: str | None = None
    """Formats its weights had on disk; None where they were never quantised."""

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

    def begin_with_eos(self) -> None:
        """Let EOS stand for the BOS the tokenizer lacks, as TransformerLens does when SAEs are
        trained.

        Raises:
            UsageError: it has no EOS either.
        """
        if self.tokenizer.eos_token_id is None:
            raise UsageError(
                f"the tokenizer of '{self.source}' has neither a BOS nor an EOS token for contexts "
                "to begin with; leave out --bos"
            )
        self.tokenizer.bos_token = self.tokenizer.eos_token

    @property
    def n_ids(self) -> int:
        """Vocabulary ids the model can read and predict: below this."""
        return min(self.hf_model.get_input_embeddings().weight.shape[0], self.readout.d_vocab)

    def resid_post(self, layer: int) -> str:
        """The hook of the residual stream after a block; layer -1 is before the first."""
        return "blocks.0.hook_resid_pre" if layer < 0 else f"blocks.{layer}.hook_resid_post"

    def check_hook(self, hook_name: str) -> None:
        """Make sure the model has a hook, and switch it on where it is off by default.

        Raises:
            ModelError: there is no such hook; the message names the closest ones.
        """
        if hook_name not in self.bridge.hook_dict:
            raise ModelError(
                f"the model '{self.source}' has no hook '{hook_name}' "
                f"(it has {self.n_layers} blocks of width {self.d_model})"
                f"{did_you_mean(hook_name, self.bridge.hook_dict)}"
            )
        if isinstance(self.bridge, HookedMesaNet):
            return
        if hook_name.endswith("hook_mlp_in"):
            self.bridge.set_use_hook_mlp_in(True)
        elif hook_name.endswith("attn.hook_result"):
            self.bridge.set_use_attn_result(True)


def load_model(source: str, dtype: str = "float32", device: str = "cpu") -> LanguageModel:
    """Load a model and its tokenizer from a directory, a GGUF file, the hub, or what is bundled.

    Raises:
        ModelError: it cannot be found, read or understood, is not causal, or is not computed alike
            by TransformerLens.
    """
    loaded = load_checkpoint(source, dtype)
    try:
        return _understood(source, loaded, dtype, device)
    except EnergyLensError:
        raise
    except Exception as error:  # a configuration may hold any value of any type
        name = type(loaded.model).__name__
        raise ModelError(f"the {name} '{source}' cannot be used: {reason_of(error)}") from error


def _understood(source: str, loaded: Loaded, dtype: str, device: str) -> LanguageModel:
    hf_model, tokenizer = loaded.model, loaded.tokenizer
    config = hf_model.config.get_text_config()
    n_ctx = context_length(hf_model.config)
    n_sample = min(_SAMPLE_TOKENS, n_ctx or _SAMPLE_TOKENS)
    sample = torch.arange(n_sample)[None] % config.vocab_size
    regime = regimes(hf_model)
    expected, mixtures = _bare_pass(hf_model, sample, source)
    if isinstance(hf_model, MesaNetForCausalLM):
        bridge: Any = HookedMesaNet(hf_model)
        shape = (config.num_hidden_layers, config.hidden_size)
        readout = _readout(hf_model.ln_final, hf_model.lm_head, config)
    else:
        bridge = _wrapped(source, hf_model, tokenizer, device)
        shape = (int(bridge.cfg.n_layers), int(bridge.cfg.d_model))
        readout = _bridge_readout(bridge, hf_model, config)
    model = LanguageModel(
        source=source,
        bridge=bridge,
        tokenizer=tokenizer,
        revision=getattr(hf_model.config, "_commit_hash", None),
        n_layers=shape[0],
        d_model=shape[1],
        n_ctx=n_ctx or _DEFAULT_N_CTX,
        dtype=dtype,
        readout=readout,
        sample=sample,
        mixtures=mixtures,
        regime=regime,
        quantisation=loaded.quantisation,
    )
    _check_logits(model, sample, expected)
    return model


def _bare_pass(
    hf_model: Any, ids: Int[Tensor, "1 pos"], source: str
) -> tuple[Float[Tensor, "1 pos d_vocab"], Mixtures]:
    """What the model computes before it is wrapped; and it must not look ahead."""
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % hf_model.config.get_text_config().vocab_size
    name = type(hf_model).__name__
    try:
        with torch.no_grad():
            changed = hf_model(other).logits.float()
            with watch(hf_model) as watched:
                expected = hf_model(ids).logits.float()
    except Exception as error:  # whatever a model's own code raises
        raise ModelError(
            f"the {name} '{source}' fails on {ids.shape[1]} tokens: {reason_of(error)}"
        ) from error
    gap = (changed - expected)[:, :-1].abs()
    if gap.numel() and not float(gap.max()) <= 1e-2 * max(1.0, float(expected.abs().max())):
        raise ModelError(
            f"the {name} '{source}' is not causal: its tokens see those that come after, so there "
            "is no energy of a next token; a causal language model is needed"
        )
    return expected, watched.mixtures(ids.numel())


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

    Raises:
        ModelError: a hook's value has no row for each token.
    """
    names = set(hook_names)
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=list(edits)):
        logits, cache = model.bridge.run_with_cache(
            ids,
            attention_mask=attention_mask,
            names_filter=lambda name: name in names,
            stop_at_layer=stop_at_layer,
        )
    for name in names:
        if cache[name].shape[:2] != ids.shape:
            raise ModelError(
                f"'{name}' has no vector for each token: for {ids.shape[0]} texts of "
                f"{ids.shape[1]} tokens it is {' x '.join(map(str, cache[name].shape))}"
            )
    stopped = stop_at_layer is not None
    return (None if stopped else logits), {name: cache[name] for name in names}


class EnoughError(Exception):
    """Raised in a hook, it ends a pass whose later parts nobody needs."""


def run_until_enough(
    model: LanguageModel,
    ids: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
    hooks: Sequence[tuple[str, Callable[..., Any]]],
) -> None:
    """A pass for what its hooks see; it ends where one of them has enough, so that no later block
    runs and no logits are made."""
    with torch.no_grad(), suppress(EnoughError):
        model.bridge.run_with_hooks(ids, attention_mask=attention_mask, fwd_hooks=list(hooks))


def read_hooks(
    model: LanguageModel, ids: Int[Tensor, "batch pos"], hook_names: Iterable[str]
) -> dict[str, Tensor]:
    """The activation at each hook for contexts without padding, and nothing else: the pass ends
    at the last of them."""
    names = tuple(dict.fromkeys(hook_names))
    found: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., None]:
        def keep(value: Tensor, hook: Any) -> None:
            found[name] = value.detach()
            if len(found) == len(names):
                raise EnoughError

        return keep

    hooks = [(name, keeper(name)) for name in names]
    run_until_enough(model, ids, torch.ones_like(ids), hooks)
    return found


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


def _check_logits(
    model: LanguageModel, ids: Int[Tensor, "1 pos"], expected: Float[Tensor, "1 pos d_vocab"]
) -> None:
    """Make sure the wrapped model and the lens at its last layer both compute what the model did.

    Architectures differ in ways (softcap, logit scale, parallel blocks, rotary conventions) that
    a wrapper may miss; a wrong one would spoil every row without a sign.
    """
    last = model.resid_post(model.n_layers - 1)
    wrapped = f"TransformerLens {version('transformer-lens')}'s wrapper"
    try:
        logits, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    except Exception as error:  # the wrapper raises KeyError, RuntimeError and others
        why = f"it gives no {error}" if isinstance(error, KeyError) else reason_of(error)
        raise ModelError(
            f"{wrapped} cannot run the {model.model_class} '{model.source}': {why}"
        ) from error
    assert logits is not None, "the pass was not stopped early"
    tolerance = 1e-3 if model.dtype == "float32" else 0.25
    for what, found in (
        (wrapped, logits.float()),
        ("the logit lens at the last layer", model.readout.logits(cache[last][0])[None]),
    ):
        gap = float((found - expected).abs().max())
        if not gap <= tolerance * max(1.0, float(expected.abs().max())):
            raise ModelError(
                f"{what} computes other logits than the {model.model_class} '{model.source}' "
                f"itself (off by {gap:.2g}), so nothing measured through it could be trusted; "
                "models of this class are not read"
            )


def _wrapped(source: str, hf_model: Any, tokenizer: Any, device: str) -> TransformerBridge:
    decoder = hf_model.get_decoder()
    if getattr(decoder, "final_layer_norm", decoder) is None:  # OPT-350m; the wrapper wants one
        decoder.final_layer_norm = nn.Identity()
    try:
        bridge = TransformerBridge.boot_transformers(
            source, hf_model=hf_model, tokenizer=copy.deepcopy(tokenizer), device=device
        )
    except Exception as error:
        lens = f"TransformerLens {version('transformer-lens')}"
        unknown = "Could not determine supported architecture" in str(error)
        reason = "it has no adapter for this class" if unknown else reason_of(error)
        raise ModelError(
            f"'{source}' is a {type(hf_model).__name__}, which {lens} cannot wrap: {reason}"
        ) from error
    bridge.eval()
    return bridge


def _bridge_readout(bridge: Any, hf_model: Any, config: Any) -> ReadOut:
    final = getattr(bridge, "ln_final", None)
    norm = None if final is None else final.original_component
    projected = getattr(hf_model.get_decoder(), "project_out", None)  # OPT-350m
    head = bridge.unembed.original_component
    return _readout(norm, head, config, float(bridge.cfg.eps), projected)


def _readout(
    norm_module: Any, head: Any, config: Any, eps: float = 1e-6, projected: Any = None
) -> ReadOut:
    """`projected` is a linear map between the norm and the head; `norm_module` may be None."""
    weight, bias = head.weight.detach(), getattr(head, "bias", None)
    if projected is not None:
        weight = weight @ projected.weight.detach()
    if norm_module is None or isinstance(norm_module, nn.Identity):
        norm = no_norm(weight.shape[1])
    else:
        eps = _first(norm_module, ("eps", "variance_epsilon", "epsilon")) or eps
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
