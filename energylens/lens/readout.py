"""The model's read-out, from residual stream to logits, as plain numbers.

The logit lens (nostalgebraist, 2020) applies the model's own final norm and unembedding to the
residual stream after any block. The norm's statistics are those of the vector at hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.errors import ModelError

NormKind = Literal["layer_norm", "rms_norm", "none"]


@dataclass(frozen=True)
class FinalNorm:
    """The norm before the unembedding: `gain * (h - mean) / scale + bias`."""

    kind: NormKind
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float

    def scale(self, h: Float[Tensor, "n d_model"]) -> Float[Tensor, "n 1"]:
        """What each vector is divided by."""
        if self.kind == "none":
            return torch.ones_like(h[:, :1])
        centred = self.centre(h)
        return (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()

    def centre(self, h: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """Take off the mean where the norm does so."""
        return h - h.mean(-1, keepdim=True) if self.kind == "layer_norm" else h

    def __call__(self, h: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        return self.gain * (self.centre(h) / self.scale(h)) + self.bias


def no_norm(d_model: int) -> FinalNorm:
    """What stands for the norm of a model that has none."""
    return FinalNorm("none", torch.ones(d_model), torch.zeros(d_model), 0.0)


@dataclass(frozen=True)
class ReadOut:
    """Final norm, unembedding and what the model does to the logits after it."""

    norm: FinalNorm
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"] | None
    """None where the unembedding has no bias."""
    logit_scale: float = 1.0
    """Multiplies the logits; other than 1 in Cohere and Granite models."""
    softcap: float | None = None
    """Logits become `softcap * tanh(logits / softcap)`, once; None where they do not (Gemma)."""

    @property
    def d_vocab(self) -> int:
        """Entries of the vocabulary, padding rows of the matrix counted."""
        return self.W_U.shape[1]

    def logits(self, h: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_vocab"]:
        """Float32 logits of residual-stream vectors."""
        normed = self.norm(h.float())
        logits = normed @ self.W_U if self.b_U is None else torch.addmm(self.b_U, normed, self.W_U)
        if self.logit_scale != 1.0:
            logits = logits * self.logit_scale
        if self.softcap is not None:
            logits = logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits


def probe_norm(
    module: Callable[[Tensor], Tensor], d_model: int, eps: float, dtype: torch.dtype
) -> FinalNorm:
    """Find gain, bias and kind of a norm by what it does, whatever its class calls its weights.

    Gemma stores gain - 1, others gain; some have a bias, some not: the answers to a few vectors
    decide, and a last one checks them.

    Raises:
        ModelError: the module is neither LayerNorm nor RMSNorm.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, d_model, generator=generator) * 3.0
    with torch.no_grad():

        def run(v: Tensor) -> Tensor:
            return module(v.to(dtype)[None])[0].float()

        bias = run(torch.zeros(1, d_model))[0]
        shifted = run(x + 5.0)
        kind: NormKind = (
            "layer_norm" if torch.allclose(shifted, run(x), rtol=1e-2, atol=1e-2) else "rms_norm"
        )
        unit = FinalNorm(kind, torch.ones(d_model), torch.zeros(d_model), eps)
        signs = torch.where(torch.arange(d_model) % 2 == 0, 1.0, -1.0)[None]
        gain = (run(signs)[0] - bias) / unit(signs)[0]
        norm = FinalNorm(kind, gain, bias, eps)
        tolerance = 1e-3 if dtype == torch.float32 else 5e-2
        if not torch.allclose(norm(x), run(x), rtol=tolerance, atol=tolerance):
            raise ModelError(
                "the model's final norm is neither LayerNorm nor RMSNorm, so there is no logit "
                "lens for it; ingest with --energies none"
            )
    return norm
