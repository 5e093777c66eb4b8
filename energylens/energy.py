"""Energies: surprisal of the next token under the logit lens, and its gradient in closed form.

E_i = -ln softmax(readout(h_i))[y_i] in nats, with y_i the next token. No epsilon is added and no
value clipped. Gradient: with p the lens distribution, u = W_U (p - onehot(y)), v = gain * u and
xhat the normalised vector, dE/dh = (v - mean(v) - xhat * mean(xhat * v)) / scale for LayerNorm;
RMSNorm has no mean(v) term.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.readout import ReadOut

NO_NEXT = -1
"""Stands for a missing next token in `next_ids`."""

_CHUNK_NUMBERS = 1 << 24
"""Logits held at once: 64 MB in float32, whatever the vocabulary."""


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


@torch.no_grad()
def lens_energies(
    readout: ReadOut,
    h: Float[Tensor, "n d_model"],
    next_ids: Int[Tensor, " n"],
    with_gradient: bool = False,
) -> Energies:
    """Read residual-stream vectors; tokens are taken in chunks so that memory stays bounded."""
    n = h.shape[0]
    rows = max(1, _CHUNK_NUMBERS // readout.d_vocab)
    parts = [
        _chunk(readout, h[i : i + rows].float(), next_ids[i : i + rows], with_gradient)
        for i in range(0, n, rows)
    ] or [_chunk(readout, h.float(), next_ids, with_gradient)]
    gradients = [part.gradient for part in parts if part.gradient is not None]
    return Energies(
        energy=torch.cat([part.energy for part in parts]),
        entropy=torch.cat([part.entropy for part in parts]),
        confidence=torch.cat([part.confidence for part in parts]),
        rank=torch.cat([part.rank for part in parts]),
        top_vocab_id=torch.cat([part.top_vocab_id for part in parts]),
        gradient=torch.cat(gradients) if gradients else None,
    )


def _chunk(
    readout: ReadOut,
    h: Float[Tensor, "n d_model"],
    next_ids: Int[Tensor, " n"],
    with_gradient: bool,
) -> Energies:
    has_next = next_ids != NO_NEXT
    targets = next_ids.clamp_min(0)[:, None]
    logits = readout.logits(h)
    top, top_vocab_id = logits.max(-1)
    true_logit = logits.gather(-1, targets)
    rank = (logits > true_logit).sum(-1)
    damping = _softcap_slope(readout, logits) if with_gradient else None
    log_z = torch.logsumexp(logits, -1)
    log_p = logits.sub_(log_z[:, None])  # in place: the logits are not needed again
    p = log_p.exp()
    entropy = -torch.linalg.vecdot(p, log_p)
    energy = torch.where(has_next, log_z - true_logit[:, 0], torch.nan)
    gradient = None
    if with_gradient:
        error = p.scatter_add_(-1, targets, -torch.ones_like(true_logit))
        error = error if damping is None else error.mul_(damping)
        gradient = _through_norm(readout, h, error.mul_(readout.logit_scale) @ readout.W_U.T)
        gradient[~has_next] = torch.nan
    return Energies(
        energy=energy,
        entropy=entropy,
        confidence=(top - log_z).exp(),
        rank=torch.where(has_next, rank, -1),
        top_vocab_id=top_vocab_id,
        gradient=gradient,
    )


def _softcap_slope(readout: ReadOut, logits: Tensor) -> Tensor | None:
    """d(capped logit)/d(logit) = 1 - (capped / softcap)^2."""
    return None if readout.softcap is None else 1.0 - (logits / readout.softcap).square()


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
