"""The weights of every head, with the norms around them folded in.

A row vector x of the stream is read by a head as x W_Q, x W_K, x W_V, and what it attends to is
written as v W_O. What is folded, so that products of these matrices say what the model computes up
to one positive number a token, which is the norm's:

* a norm's gain multiplies the rows of what reads it: W_Q, W_K, W_V and W_U;
* LayerNorm takes the mean over the width off: it is taken off what reads (over the width, for each
  column) and off what writes (W_O, over the width), where no reader sees it;
* W_E is the embedding as the first block's norm leaves it, without position, its gain in W_Q and
  W_V of that block as everywhere; W_U has its mean over the vocabulary taken off, which softmax
  does not see;
* what a layer scales its scores by beyond 1 / sqrt(d_head) is in its W_Q;
* biases move every token alike and are left out: of queries, keys and values, of norms, of outputs.

Grouped keys and values are repeated for each of the heads that share them. Rotary positions turn
queries and keys by where they stand; their product here is the one at distance zero, where the
turns cancel.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.errors import ModelError
from energylens.lens.models import LanguageModel, read_hooks
from energylens.lens.readout import FinalNorm, no_norm, probe_norm
from energylens.mesanet.hooked import HookedMesaNet
from energylens.mesanet.mixers import Convolved

Kind = Literal["attention", "mesa", "log-linear"]
_TOLERANCE = {"float32": 2e-3}
_COARSE = 5e-2
"""What products may be off by in formats of 8 to 11 bits."""


@dataclass(frozen=True)
class HeadWeights:
    """Made by `read_heads`; float32."""

    kind: Kind
    """mesa and log-linear: q, k, v, o of such layers, an analogue. Keys and queries go through a
    nonlinearity there, only the newest tap of the short convolution counts here, and the norm of
    each head's output is folded into W_O like any other."""
    W_E: Float[Tensor, "n_ids d_model"]
    W_U: Float[Tensor, "d_model n_ids"]
    W_Q: Float[Tensor, "layer head d_model d_head"]
    W_K: Float[Tensor, "layer head d_model d_head"]
    W_V: Float[Tensor, "layer head d_model d_head"]
    W_O: Float[Tensor, "layer head d_head d_model"]

    @property
    def n_layers(self) -> int:
        return self.W_Q.shape[0]

    @property
    def n_heads(self) -> int:
        return self.W_Q.shape[1]

    @property
    def d_head(self) -> int:
        return self.W_Q.shape[3]


@dataclass(frozen=True)
class _Raw:
    """Weights as they are, and the norm before each layer's heads."""

    norms: list[FinalNorm]
    W_Q: Float[Tensor, "layer head d_model d_head"]
    W_K: Float[Tensor, "layer head d_model d_head"]
    W_V: Float[Tensor, "layer head d_model d_head"]
    W_O: Float[Tensor, "layer head d_head d_model"]


def read_heads(model: LanguageModel) -> HeadWeights:
    """The heads of a model, folded.

    Raises:
        ModelError: it has no attention heads, or heads that these matrices do not describe.
    """
    if isinstance(model.bridge, HookedMesaNet):
        raw, kind = _of_mesanet(model), model.hf_model.config.mixer
    else:
        raw, kind = _of_bridge(model), "attention"
    final, n_ids = model.readout.norm, model.n_ids
    unembed = _read(model.readout.W_U[:, :n_ids], final)
    written = raw.W_O - raw.W_O.mean(-1, keepdim=True) if _centres(final) else raw.W_O
    embedded = _embedding(model)
    first = raw.norms[0]
    return HeadWeights(
        kind=kind,
        W_E=first.centre(embedded) / first.scale(embedded),
        W_U=unembed - unembed.mean(1, keepdim=True),
        W_Q=_folded(raw.W_Q, raw.norms),
        W_K=_folded(raw.W_K, raw.norms),
        W_V=_folded(raw.W_V, raw.norms),
        W_O=written,
    )


def _folded(
    weight: Float[Tensor, "layer head d_model d_head"], norms: list[FinalNorm]
) -> Float[Tensor, "layer head d_model d_head"]:
    return torch.stack([_read(w, norm) for w, norm in zip(weight, norms, strict=True)])


def _read(weight: Float[Tensor, "*any d_model n"], norm: FinalNorm) -> Tensor:
    """A matrix that reads what a norm leaves, so that it reads what the norm was given."""
    scaled = norm.gain[:, None] * weight
    return scaled - scaled.mean(-2, keepdim=True) if _centres(norm) else scaled


def _centres(norm: FinalNorm) -> bool:
    return norm.kind == "layer_norm"


def _embedding(model: LanguageModel) -> Float[Tensor, "n_ids d_model"]:
    """What each token is in the stream before the first block, without its position."""
    table = model.hf_model.get_input_embeddings().weight.detach().float()[: model.n_ids]
    ids = model.sample
    other = (ids + 1) % model.n_ids
    first = model.resid_post(-1)
    found = [read_hooks(model, one, [first])[first].float() for one in (ids, other)]
    moved, expected = found[0] - found[1], table[ids] - table[other]
    if moved.shape != expected.shape:
        raise _refusal(model, "its embedding is of another width than its stream")
    scale = float((moved * expected).sum() / expected.square().sum())
    if not _close(model, moved, scale * expected):
        raise _refusal(model, "its embedding is normed or mixed before the first block")
    return scale * table


def _of_mesanet(model: LanguageModel) -> _Raw:
    parts: dict[str, list[Tensor]] = {"q": [], "k": [], "v": [], "o": []}
    norms = []
    for block in model.hf_model.blocks:
        mixer, d = block.mixer, model.d_model
        norms.append(probe_norm(block.mixer_norm, d, block.mixer_norm.eps, torch.float32))
        qkv = mixer.qkv.weight.detach().float()
        if isinstance(mixer, Convolved):
            qkv = qkv * mixer.conv.detach().float()[:, -1:]
        for name, part in zip("qkv", qkv.split(d), strict=True):
            parts[name].append(part.unflatten(0, (mixer.n_heads, mixer.d_head)).mT)
        out = mixer.out.weight.detach().float().T.unflatten(0, (mixer.n_heads, mixer.d_head))
        parts["o"].append(mixer.norm.weight.detach().float()[:, None] * out)
    return _Raw(norms, *(torch.stack(parts[name]) for name in "qkvo"))


def _of_bridge(model: LanguageModel) -> _Raw:
    bridge: Any = model.bridge
    blocks = list(bridge.blocks)
    lacking = [i for i, block in enumerate(blocks) if "attn" not in block._modules]
    if len(lacking) == len(blocks):
        raise _refusal(model, "it has no attention")
    if lacking:
        raise _refusal(model, f"its block {lacking[0]} has no attention; all are needed")
    try:
        q, k, v, o = (
            getattr(bridge, name).detach().float() for name in ("W_Q", "W_K", "W_V", "W_O")
        )
    except Exception as error:  # the wrapper raises AttributeError, TypeError, RuntimeError
        raise _refusal(
            model,
            f"its attention ({_class(blocks[0].attn)}) has no q, k, v, o that can be told apart",
        ) from error
    n_heads = q.shape[1]
    if q.dim() != 4 or k.dim() != 4 or n_heads % k.shape[1] or q.shape[-1] != v.shape[-1]:
        raise _refusal(model, f"the shapes of its heads are {tuple(q.shape)} and {tuple(k.shape)}")
    k, v = (part.repeat_interleave(n_heads // k.shape[1], dim=1) for part in (k, v))
    norms = [_norm_of(model, block) for block in blocks]
    raw = _Raw(norms, q, k, v, o)
    return replace(raw, W_Q=_checked_scales(model, raw)[:, None, None, None] * q)


def _class(attention: Any) -> str:
    return type(getattr(attention, "original_component", attention)).__name__


def _norm_of(model: LanguageModel, block: Any) -> FinalNorm:
    module = getattr(getattr(block, "ln1", None), "original_component", None)
    if module is None:
        return no_norm(model.d_model)
    eps = next(
        (
            float(getattr(module, n))
            for n in ("eps", "variance_epsilon", "epsilon")
            if hasattr(module, n)
        ),
        1e-6,
    )
    try:
        return probe_norm(module, model.d_model, eps, next(module.parameters()).dtype)
    except (ModelError, StopIteration) as error:
        raise _refusal(
            model, f"its {type(module).__name__} is neither LayerNorm nor RMSNorm"
        ) from error


def _checked_scales(model: LanguageModel, raw: _Raw) -> Float[Tensor, " layer"]:
    """Make sure that on a few tokens these matrices give what the model computes; by how much each
    layer scales its scores beyond the root of the width of a head."""
    attn = [f"blocks.{layer}.attn" for layer in range(model.n_layers)]
    parts = ("q", "k", "v", "z", "attn_scores", "pattern")
    names = [f"{a}.hook_{part}" for a in attn for part in parts]
    names += [f"blocks.{layer}.hook_attn_out" for layer in range(model.n_layers)]
    names += [f"blocks.{layer}.hook_resid_pre" for layer in range(model.n_layers)]
    turned = [f"{attn[0]}.hook_rot_{part}" for part in "qk"]
    known = [name for name in (*names, *turned) if name in model.bridge.hook_dict]
    cache = read_hooks(model, model.sample, known)
    missing = [name for name in names if name not in cache]
    if missing:
        raise _refusal(model, f"TransformerLens gives it no hook '{missing[0]}'")
    for name in cache.keys() & set(turned):
        before = cache[name.replace("rot_", "")].float().flatten().norm()
        if not _close(model, cache[name].float().flatten().norm(), before):
            raise _refusal(model, "its queries and keys are normed before they are compared")
    for layer, name in enumerate(attn):
        normed = raw.norms[layer](cache[f"blocks.{layer}.hook_resid_pre"][0].float())
        for part, weight in (("q", raw.W_Q), ("k", raw.W_K), ("v", raw.W_V)):
            found = _by_head(cache[f"{name}.hook_{part}"], raw)
            made = torch.einsum("pd,hde->phe", normed, weight[layer])
            if not _close(model, found - found[:1], made - made[:1]):  # without the bias
                raise _refusal(
                    model,
                    f"its {part} is not a matrix times the normed stream (a norm of its own, a "
                    "gate, a low-rank latent, or a norm that stands elsewhere)",
                )
        out = cache[f"blocks.{layer}.hook_attn_out"][0].float()
        made = torch.einsum("phe,hed->pd", _by_head(cache[f"{name}.hook_z"], raw), raw.W_O[layer])
        if not _close(model, out - out[:1], made - made[:1]):
            raise _refusal(
                model,
                "what its heads write is normed, scaled or gated before it reaches the stream",
            )
    return torch.stack([_score_scale(model, raw, cache, name) for name in attn])


def _by_head(value: Float[Tensor, "1 pos *rest"], raw: _Raw) -> Float[Tensor, "pos head d_head"]:
    """A hook's value by head, shared ones repeated."""
    found = value[0].float().reshape(value.shape[1], -1, raw.W_Q.shape[-1])
    return found.repeat_interleave(raw.W_Q.shape[1] // found.shape[1], dim=1)


def _score_scale(
    model: LanguageModel, raw: _Raw, cache: dict[str, Tensor], attn: str
) -> Float[Tensor, ""]:
    """At distance zero positions turn nothing and add nothing."""
    q, k = (_by_head(cache[f"{attn}.hook_{part}"], raw) for part in "qk")
    made = torch.einsum("phe,phe->hp", q, k) / raw.W_Q.shape[-1] ** 0.5
    found = cache[f"{attn}.hook_attn_scores"][0].float().diagonal(0, 1, 2)
    scale = (found * made).sum() / made.square().sum().clamp_min(torch.finfo().tiny)
    # where queries and keys are nearly at right angles, coarse formats leave little of the product
    size = scale.abs() * (q.norm(dim=-1) * k.norm(dim=-1)).max() / raw.W_Q.shape[-1] ** 0.5
    if not _close(model, found, scale * made, float(size)):
        raise _refusal(
            model,
            "its scores are not products of queries and keys (capped, or TransformerLens hides "
            "them)",
        )
    return torch.ones(()) if _close(model, scale, torch.ones(())) else scale


def _close(
    model: LanguageModel, found: Tensor, expected: Tensor, size: float | None = None
) -> bool:
    """Whether two tensors differ by little of the largest entry, or of `size`."""
    gap = float((found - expected).abs().max())
    size = float(expected.abs().max()) if size is None else size
    return gap <= _TOLERANCE.get(model.dtype, _COARSE) * max(size, 1e-6)


def _refusal(model: LanguageModel, why: str) -> ModelError:
    return ModelError(
        f"the heads of the {model.model_class} '{model.source}' are not read: {why}; circuits are "
        "read from models whose every block has heads like those of GPT-2 or Llama, and from "
        "MesaNets"
    )
