"""Orthogonal matching pursuit: codes over any dictionary, without an encoder.

From the residual r (x at first) the direction d with the largest |<r, d>| is taken, the weights of
all taken are fitted anew by least squares, and r is what is left (Pati, Rezaiifar, Krishnaprasad
1993). After k directions a token has at most k codes, of either sign.
"""

import re
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from energylens.errors import SaeError

CODER = re.compile(r"omp:([1-9]\d{0,5})")
"""How a pursuit of at most so many directions a token is written."""
_CHUNK_NUMBERS = 1 << 24
_SMALL = 1e-7
"""A token whose residual is less than this share of it is done: what is left is rounding."""


class Pursuit(nn.Module):
    """An SAE's decoder with codes by pursuit in the place of its encoder; it answers as an SAE of
    sae-lens does."""

    def __init__(self, sae: Any, k: int, source: str) -> None:
        """Raises:
        SaeError: the decoder is not one matrix on activations as they are, or k does not fit.
        """
        super().__init__()
        kind, shape = sae.cfg.normalize_activations, tuple(sae.W_dec.shape)
        reshaped = getattr(sae.cfg, "reshape_activations", "none")
        if kind != "none" or reshaped != "none" or len(shape) != 2 or shape[1] != sae.cfg.d_in:
            raise SaeError(
                f"'{source}' is an SAE whose decoder does not add up directions on activations as "
                "they are (it scales, reshapes or predicts another hook), so nothing is pursued "
                "over it; leave out omp"
            )
        if k > min(shape):
            raise SaeError(
                f"omp:{k} asks for more directions a token than '{source}' can give: "
                f"{min(shape):,} at most"
            )
        self.k = k
        self.W_dec = nn.Parameter(sae.W_dec.detach().float(), requires_grad=False)
        self.b_dec = nn.Parameter(sae.b_dec.detach().float(), requires_grad=False)
        self.dtype = torch.float32
        self.cfg = SimpleNamespace(
            d_in=shape[1],
            d_sae=shape[0],
            normalize_activations="none",
            architecture=lambda: f"omp:{k}",
        )

    def encode(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_sae"]:
        """Codes by pursuit; they pass no gradient on."""
        flat = x.reshape(-1, x.shape[-1]) - self.b_dec
        return pursue(flat, self.W_dec, self.k).reshape(*x.shape[:-1], -1)

    def decode(self, codes: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_in"]:
        """The SAE's own decoder on codes of directions as long as they are."""
        return codes @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_in"]:
        """The output."""
        return self.decode(self.encode(x))


@torch.no_grad()
def pursue(
    x: Float[Tensor, "n d_in"], directions: Float[Tensor, "d_sae d_in"], k: int
) -> Float[Tensor, "n d_sae"]:
    """Codes of vectors over directions of any length, at most k each: `codes @ directions` is near
    x.

    Raises:
        ValueError: k is not from 1 to the number of directions or the width.
    """
    most = min(directions.shape)
    if not 1 <= k <= most:
        raise ValueError(f"k is {k}; it has to be from 1 to {most}")
    norms = directions.norm(dim=1)
    unit = directions / norms[:, None].clamp_min(1e-12)
    unit[norms == 0] = 0.0
    rows = max(1, _CHUNK_NUMBERS // len(unit))
    codes = torch.cat([_pursue(part, unit, k) for part in x.split(rows)])
    return codes / norms.clamp_min(1e-12)


def _pursue(
    x: Float[Tensor, "n d_in"], unit: Float[Tensor, "d_sae d_in"], k: int
) -> Float[Tensor, "n d_sae"]:
    codes = torch.zeros(len(x), len(unit))
    taken = torch.zeros(len(x), 0, dtype=torch.long)
    going = torch.arange(len(x))
    residual, first = x, x.norm(dim=1)
    for _ in range(k):
        is_left = residual.norm(dim=1) > _SMALL * first[going]
        going, residual, taken = going[is_left], residual[is_left], taken[is_left]
        if not len(going):
            break
        scores = (residual @ unit.T).abs()
        scores.scatter_(1, taken, -1.0)
        taken = torch.cat([taken, scores.argmax(1, keepdim=True)], 1)
        chosen = unit[taken].double()
        wanted = x[going].double()
        weights = torch.linalg.lstsq(chosen.mT, wanted[:, :, None]).solution[:, :, 0]
        residual = (wanted - (weights[:, None] @ chosen)[:, 0]).float()
        codes[going] = torch.zeros(len(going), len(unit)).scatter(1, taken, weights.float())
    return codes
