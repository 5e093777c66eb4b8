"""Check an SAE on real tokens before anything is stored: does it reconstruct what it is fed?

fvu = sum |x - xhat|^2 / sum |x - mean(x)|^2 over tokens; explained_variance = 1 - fvu, about the
mean (Gao et al. 2024 call fvu the normalised MSE). CE loss score = (zero-ablated - with SAE) /
(zero-ablated - clean), as SAEBench and sae-lens define it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.lens.models import LanguageModel
from energylens.lens.saes import Sae

DENSE = 0.1
"""A feature active on more than this share of tokens is dense."""
MAX_FVU = 0.7
"""Above this an SAE explains so little that hook, model or scaling must be wrong."""
L0_FACTOR = 3.0
"""How far L0 may be from the declared one, as a factor either way."""
LEAST_COST = 0.01
"""Nats a token that zeros must cost for the share an SAE recovers of them to mean anything."""

_COUNTED = 128
"""Tokens whose codes are counted at once."""


@dataclass(frozen=True)
class GateResult:
    """What the gate measured of one SAE."""

    l0: float
    fvu: float
    explained_variance: float
    n_dead: int
    n_dense: int
    n_tokens: int
    ce_loss_score: float | None
    """None where zeros in the hook's place cost the model nothing or no next token was there."""
    refusal: str | None
    """Why the SAE should not be used; None where nothing speaks against it."""


class GateSums:
    """Running sums of one SAE over batches; memory does not grow with the tokens."""

    def __init__(self, d_sae: int) -> None:
        self.active = torch.zeros(d_sae, dtype=torch.float64)
        self.n = 0
        self.error = 0.0
        self.square = 0.0
        self.total: Tensor | None = None

    def add(
        self,
        codes: Float[Tensor, "n d_sae"],
        target: Float[Tensor, "n d_out"],
        output: Float[Tensor, "n d_out"],
    ) -> None:
        """Take in the real tokens of a batch."""
        self.add_counted(times_active(codes), target, output)

    def add_counted(
        self,
        active: Int[Tensor, " d_sae"],
        target: Float[Tensor, "n d_out"],
        output: Float[Tensor, "n d_out"],
    ) -> None:
        """The same, where it is known on how many of the tokens each feature is active."""
        x, y = target.double(), output.double()
        self.active += active
        self.n += len(x)
        self.error += (x - y).square().sum().item()
        self.square += x.square().sum().item()
        self.total = x.sum(0) if self.total is None else self.total + x.sum(0)

    def result(self, declared_l0: float | None, ce_loss_score: float | None) -> GateResult:
        """The figures, and whether they speak against the SAE."""
        if self.n == 0 or self.total is None:
            raise ValueError("the gate saw no token")
        variance = self.square - self.total.square().sum().item() / self.n
        fvu = self.error / variance if variance > 0 else float("inf")
        density = self.active / self.n
        l0 = float(density.sum())
        return GateResult(
            l0=l0,
            fvu=fvu,
            explained_variance=1.0 - fvu,
            n_dead=int((self.active == 0).sum()),
            n_dense=int((density > DENSE).sum()),
            n_tokens=self.n,
            ce_loss_score=ce_loss_score,
            refusal=_refusal(fvu, l0, declared_l0),
        )


def times_active(codes: Float[Tensor, "n d_sae"]) -> Int[Tensor, " d_sae"]:
    """On how many tokens each feature is active; a few at a time, which stay in the cache."""
    counts = torch.zeros(codes.shape[1], dtype=torch.long)
    for some in codes.split(_COUNTED):
        counts += (some != 0).sum(0, dtype=torch.int32)
    return counts


def _refusal(fvu: float, l0: float, declared_l0: float | None) -> str | None:
    if not fvu <= MAX_FVU:  # NaN is refused too
        return (
            f"it leaves {fvu:.3g} of the variance unexplained (at most {MAX_FVU} is accepted): "
            "wrong hook, wrong model, or wrong scaling"
        )
    if l0 == 0:
        return "no feature is ever active: wrong hook, wrong model, or wrong scaling"
    if declared_l0 and not declared_l0 / L0_FACTOR <= l0 <= declared_l0 * L0_FACTOR:
        return (
            f"{l0:.3g} features are active a token where its maker declares {declared_l0:.3g}, "
            f"though it leaves only {fvu:.3g} of the variance unexplained: the model or hook is a "
            "near relative of its own, the texts are unlike those it was trained on, or its "
            "training was short and its thresholds have not converged"
        )
    return None


def ce_score(clean: float, with_sae: float, ablated: float, n: int) -> float | None:
    """Share of the loss that zeros cost which the SAE recovers, from sums over n tokens; None where
    zeros cost less than LEAST_COST a token: a share of nothing can be any number."""
    cost = ablated - clean
    return (ablated - with_sae) / cost if cost >= LEAST_COST * n and n > 0 else None


def encode_tokens(
    sae: Sae, x: Float[Tensor, "batch pos *d_in"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "n d_sae"]:
    """Codes of the real tokens of a batch, in the order of the batch.

    A temporal SAE looks back along its sequence, so it is given whole right-padded sequences.
    """
    if sae.architecture == "temporal":
        return sae.encode(x)[mask]
    return sae.encode(x[mask][None])[0]


def reconstruct_tokens(
    sae: Sae, x: Float[Tensor, "batch pos *d_in"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "n d_out"]:
    """The SAE's output at the real tokens of a batch, in the order of the batch."""
    if sae.architecture == "temporal":
        return sae.reconstruct(x)[mask].flatten(1)
    return sae.reconstruct(x[mask][None])[0].flatten(1)


def ce_losses(
    model: LanguageModel,
    sae: Sae,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
) -> tuple[float, float, float, int]:
    """Summed next-token loss of a batch: clean, with the SAE's output, with zeros; and how many.

    What is replaced is the SAE's target hook, at every real token but special first ones.
    """
    replace = mask.clone()
    if model.bos_id is not None:
        replace &= ids != model.bos_id
    clean, cache = _loss(model, ids, mask, [], [sae.hook_name])
    source = cache[sae.hook_name]

    def replaced(value: Tensor, part: Tensor) -> Tensor:
        new = value.clone()
        sae.part(new)[replace] = part[replace]
        return new

    def with_sae(value: Tensor, hook: Any) -> Tensor:
        own = sae.part(value)
        out = sae.reconstruct(source).to(value.dtype).reshape(own.shape)
        if sae.target_centring:
            out = out + own.mean(-1, keepdim=True)
        return replaced(value, out)

    def with_zeros(value: Tensor, hook: Any) -> Tensor:
        return replaced(value, torch.zeros_like(sae.part(value)))

    spliced, _ = _loss(model, ids, mask, [(sae.target_hook, with_sae)], [])
    ablated, _ = _loss(model, ids, mask, [(sae.target_hook, with_zeros)], [])
    return clean, spliced, ablated, int(mask[:, 1:].sum())


def _loss(
    model: LanguageModel,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    hooks: list[tuple[str, Any]],
    keep: list[str],
) -> tuple[float, dict[str, Tensor]]:
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        return lambda value, hook: kept.__setitem__(name, value)

    with torch.no_grad():
        logits = model.bridge.run_with_hooks(
            ids,
            attention_mask=mask.long(),
            fwd_hooks=[*hooks, *((name, keeper(name)) for name in keep)],
        )
    log_p = logits[:, :-1].float().log_softmax(-1)
    loss = -log_p.gather(-1, ids[:, 1:, None])[..., 0]
    return float(loss[mask[:, 1:]].sum()), kept
