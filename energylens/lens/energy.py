"""Energies: surprisal of the next token under the logit lens, and its gradient in closed form.

E_i = -ln softmax(readout(h_i))[y_i] in nats, with y_i the next token. No epsilon is added and no
value clipped. Gradient: with p the lens distribution, u = W_U (p - onehot(y)), v = gain * u and
xhat the normalised vector, dE/dh = (v - mean(v) - xhat * mean(xhat * v)) / scale for LayerNorm;
RMSNorm has no mean(v) term.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.lens.readout import ReadOut

NO_NEXT = -1
"""Stands for a missing next token in `next_ids`."""

_CHUNK_NUMBERS = 1 << 24
"""Logits held at once: 64 MB in float32, whatever the vocabulary."""

_CACHE_NUMBERS = 1 << 20
"""Logits gone through at once: they stay in the processor's cache from one pass to the next."""


@dataclass(frozen=True)
class Energies:
    """What the lens reads at each of n tokens. Where there is no next token, energy is NaN and
    rank is -1; the storing side turns both into NULL."""

    energy: Float[Tensor, " n"]
    """Nats."""
    entropy: Float[Tensor, " n"]
    """Nats."""
    confidence: Float[Tensor, " n"]
    """Probability of the likeliest next token."""
    rank: Int[Tensor, " n"]
    """Tokens strictly likelier than the true next one."""
    top_vocab_id: Int[Tensor, " n"]
    """The likeliest next token."""
    gradient: Float[Tensor, "n d_model"] | None
    """dE/dh, nats per unit of the residual stream; None where not asked for, NaN where no next."""
    resampled_gradient: Float[Tensor, "n d_model"] | None = None
    """The same for a next token drawn from the lens itself: what dE/dh is under a calibrated
    read-out. None where no uniforms were given."""


@torch.no_grad()
def lens_energies(
    readout: ReadOut,
    h: Float[Tensor, "n d_model"],
    next_ids: Int[Tensor, " n"],
    with_gradient: bool = False,
    uniforms: Float[Tensor, " n"] | None = None,
) -> Energies:
    """Read residual-stream vectors; tokens are taken in chunks so that memory stays bounded.

    `uniforms`, one number in [0, 1) a token, draw the labels of the resampled gradient; they ask
    for `with_gradient`.
    """
    n = h.shape[0]
    rows = max(1, _CHUNK_NUMBERS // readout.d_vocab)
    parts = [
        _chunk(
            readout,
            h[i : i + rows].float(),
            next_ids[i : i + rows],
            with_gradient,
            None if uniforms is None else uniforms[i : i + rows],
        )
        for i in range(0, max(1, n), rows)
    ]
    gradients = [part.gradient for part in parts if part.gradient is not None]
    resampled = [part.resampled_gradient for part in parts if part.resampled_gradient is not None]
    return Energies(
        energy=torch.cat([part.energy for part in parts]),
        entropy=torch.cat([part.entropy for part in parts]),
        confidence=torch.cat([part.confidence for part in parts]),
        rank=torch.cat([part.rank for part in parts]),
        top_vocab_id=torch.cat([part.top_vocab_id for part in parts]),
        gradient=torch.cat(gradients) if gradients else None,
        resampled_gradient=torch.cat(resampled) if resampled else None,
    )


def _chunk(
    readout: ReadOut,
    h: Float[Tensor, "n d_model"],
    next_ids: Int[Tensor, " n"],
    with_gradient: bool,
    uniforms: Float[Tensor, " n"] | None,
) -> Energies:
    """One product with the unembedding; the rest goes through the cache a few rows at a time."""
    logits = readout.logits(h)
    rows = max(1, _CACHE_NUMBERS // readout.d_vocab)
    parts = [
        _read(
            readout,
            logits[i : i + rows],
            next_ids[i : i + rows],
            with_gradient,
            None if uniforms is None else uniforms[i : i + rows],
        )
        for i in range(0, max(1, len(h)), rows)
    ]
    energy, entropy, confidence, rank, top, shift = (
        torch.cat(part) for part in zip(*parts, strict=True)
    )
    gradient = resampled = None
    if with_gradient:  # the logits now hold the error p - onehot
        error = logits.mul_(readout.logit_scale) @ readout.W_U.T
        gradient = _through_norm(readout, h, error)
        gradient[next_ids == NO_NEXT] = torch.nan
        if uniforms is not None:  # another label moves the error by two columns of W_U
            drawn, slope_true, slope_drawn = shift.unbind(1)
            error += (slope_true * readout.logit_scale)[:, None] * _column(readout, next_ids)
            error -= (slope_drawn * readout.logit_scale)[:, None] * _column(readout, drawn.long())
            resampled = _through_norm(readout, h, error)
            resampled[next_ids == NO_NEXT] = torch.nan
    return Energies(energy, entropy, confidence, rank, top, gradient, resampled)


def _column(readout: ReadOut, ids: Int[Tensor, " n"]) -> Float[Tensor, "n d_model"]:
    return readout.W_U.T[ids.clamp_min(0)]


def _read(
    readout: ReadOut,
    logits: Float[Tensor, "n d_vocab"],
    next_ids: Int[Tensor, " n"],
    with_gradient: bool,
    uniforms: Float[Tensor, " n"] | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Energy, entropy, confidence, rank, top id, and (drawn label, slope at the true label, slope
    at the drawn one); the logits are used up, and for a gradient replaced by dE/dlogits before
    the softcap."""
    has_next = next_ids != NO_NEXT
    targets = next_ids.clamp_min(0)[:, None]
    true_logit = logits.gather(-1, targets)
    numbers = logits.numpy()  # numpy finds and counts along rows several times faster than torch
    rank = torch.from_numpy(np.count_nonzero(numbers > true_logit.numpy(), axis=-1))
    top_vocab_id = torch.from_numpy(numbers.argmax(-1))
    top = logits.gather(-1, top_vocab_id[:, None])[:, 0]
    slope = None
    if with_gradient and readout.softcap is not None:
        slope = 1.0 - (logits / readout.softcap).square()
    below_top = logits.sub_(top[:, None])
    weights = below_top.exp()
    total = weights.sum(-1)
    log_total = total.log()
    entropy = log_total - torch.linalg.vecdot(weights, below_top) / total
    shift = torch.zeros(len(logits), 3)
    if with_gradient:
        torch.div(weights, total[:, None], out=logits)
        if uniforms is not None:
            shift = _draw(logits, slope, targets, uniforms)
        logits.scatter_add_(-1, targets, -torch.ones_like(true_logit))
        if slope is not None:
            logits.mul_(slope)
    energy = log_total + (top - true_logit[:, 0])
    return (
        torch.where(has_next, energy, torch.nan),
        entropy,
        total.reciprocal(),
        torch.where(has_next, rank, -1),
        top_vocab_id,
        shift,
    )


def _draw(
    p: Float[Tensor, "n d_vocab"],
    slope: Float[Tensor, "n d_vocab"] | None,
    targets: Int[Tensor, "n 1"],
    uniforms: Float[Tensor, " n"],
) -> Float[Tensor, "n 3"]:
    """Labels drawn from p, and the softcap's slope at the true and the drawn label."""
    cumulated = p.cumsum(-1, dtype=torch.float64)
    level = uniforms.double()[:, None] * cumulated[:, -1:]
    drawn = torch.searchsorted(cumulated, level, right=True).clamp_max(p.shape[1] - 1)
    ones = torch.ones(len(p), 1)
    at = [ones, ones] if slope is None else [slope.gather(1, targets), slope.gather(1, drawn)]
    return torch.cat([drawn.float(), *at], dim=1)


def _through_norm(
    readout: ReadOut, h: Float[Tensor, "n d_model"], u: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_model"]:
    """Multiply by the transposed Jacobian of the final norm at h."""
    norm = readout.norm
    v = u * norm.gain
    if norm.kind == "none":
        return v
    scale = norm.scale(h)
    xhat = norm.centre(h) / scale
    if norm.kind == "layer_norm":
        v = v - v.mean(-1, keepdim=True)
    return (v - xhat * (xhat * v).mean(-1, keepdim=True)) / scale
