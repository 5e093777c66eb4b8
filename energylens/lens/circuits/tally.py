"""Scores of every head over any number of tokens, by sums; no attention is kept.

A destination is every real token but the first of its context, which can only look at itself. At a
destination t with the token x_t a head puts the share A_ts of its attention on the source s <= t:

    previous_token    A_t,t-1
    duplicate_token   sum of A_ts over s < t with x_s = x_t, where there is one
    induction         sum of A_ts over s <= t with x_{s-1} = x_t, where there is one
    self_token        A_t,t            first_token    A_t,0
    entropy           -sum A_ts ln A_ts, nats
    distance          t - s, over all attention; its mean and variance
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.errors import ModelError
from energylens.lens.batching import Batch
from energylens.lens.circuits.patterns import LayerHeads
from energylens.lens.circuits.weights import HeadWeights

_SUMS = (
    "previous_token", "duplicate_token", "induction", "self_token", "first_token", "entropy",
    "distance", "distance_squared", "output_norm",
)  # fmt: skip

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class HeadScores:
    """Means over destinations, [layer, head]; NaN where there is none."""

    scores: dict[str, Float[Tensor, "layer head"]]
    uniform: dict[str, float]
    """What a head that attends to all it may see alike would score on the same tokens."""
    n_tokens: int
    n_duplicate: int
    """Destinations whose token stands before them too."""
    n_induction: int
    """Destinations with a source after an earlier one of their token."""


@dataclass(frozen=True)
class Peaks:
    """The strongest pair of each context, the strongest contexts first, [layer, head, k].

    The strength is attention times the norm of what the source's value writes: what attention alone
    ranks is mostly sinks, whose values write next to nothing. -inf fills up."""

    strength: Float[Tensor, "layer head k"]
    attention: Float[Tensor, "layer head k"]
    context: Int[Tensor, "layer head k"]
    destination: Int[Tensor, "layer head k"]
    source: Int[Tensor, "layer head k"]


@dataclass
class _Places:
    """What the tokens of one batch say of its pairs of positions."""

    contexts: Int[Tensor, " batch"]
    counted: Float[Tensor, "batch destination"]
    wanted: Float[Tensor, "batch pairs two"]
    """Of each pair, whether it is one of duplicates, and one of induction."""
    distance: Float[Tensor, "destination source"]


@dataclass
class HeadTally:
    """Sums over batches, and the strongest pairs so far."""

    weights: HeadWeights
    k: int
    n_tokens: int = 0
    n_duplicate: int = 0
    n_induction: int = 0
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _uniform: dict[str, float] = field(default_factory=dict)
    _places: _Places | None = None

    def __post_init__(self) -> None:
        shape = self.weights.n_layers, self.weights.n_heads
        self._sums = {name: torch.zeros(shape, dtype=torch.float64) for name in _SUMS}
        self._gram = self.weights.W_O @ self.weights.W_O.mT
        empty = torch.full((*shape, self.k), -torch.inf)
        whole = torch.zeros((*shape, self.k), dtype=torch.long)
        self._peaks = Peaks(empty, empty.clone(), whole, whole.clone(), whole.clone())

    def begin(self, batch: Batch, contexts: Sequence[int]) -> None:
        """Take the tokens of a batch; `layer` then adds what each layer's heads do on them."""
        ids, n = batch.ids, batch.ids.shape[1]
        counted = batch.mask.clone()
        counted[:, 0] = False
        same = (ids[:, :, None] == ids[:, None, :]).tril(-1) & counted[:, :, None]
        after = torch.zeros_like(same)
        after[:, :, 1:] = same[:, :, :-1]
        place = torch.arange(n)
        self._places = _Places(
            torch.tensor(contexts),
            counted.float(),
            torch.stack([same, after], -1).flatten(1, 2).float(),
            (place[:, None] - place[None]).clamp_min(0).float(),
        )
        self.n_tokens += int(counted.sum())
        self.n_duplicate += int(same.any(-1).sum())
        self.n_induction += int(after.any(-1).sum())
        seen = 1.0 / (place + 1)
        alike = {
            "previous_token": counted * seen,
            "self_token": counted * seen,
            "first_token": counted * seen,
            "duplicate_token": same.sum(-1) * seen,
            "induction": after.sum(-1) * seen,
            "entropy": counted * (place + 1).log(),
            "distance": counted * (place / 2),
        }
        for name, value in alike.items():
            self._uniform[name] = self._uniform.get(name, 0.0) + float(value.double().sum())

    def layer(self, heads: LayerHeads) -> None:
        """Add what one layer's heads do on the batch.

        Raises:
            ModelError: attention is no number.
        """
        places = self._places
        assert places is not None, "a batch was begun"
        counted = places.counted[:, None, :, None]
        pattern = heads.pattern.where(counted > 0, 0.0)
        norm = torch.einsum("bphe,hef,bphf->bph", heads.mixed, self._gram[heads.layer], heads.mixed)
        wanted = (pattern.flatten(2) @ places.wanted).sum(0)
        summed = pattern.sum(0)
        found = {
            "previous_token": summed.diagonal(-1, -2, -1).sum(1),
            "duplicate_token": wanted[:, 0],
            "induction": wanted[:, 1],
            "self_token": summed.diagonal(0, -2, -1).sum(1),
            "first_token": summed[..., 0].sum(1),
            "entropy": -(pattern * pattern.clamp_min(_TINY).log()).sum((0, 2, 3)),
            "distance": (summed * places.distance).sum((1, 2)),
            "distance_squared": (summed * places.distance**2).sum((1, 2)),
            "output_norm": (norm.clamp_min(0).sqrt() * places.counted[:, :, None]).sum((0, 1)),
        }
        for name, value in found.items():
            if not value.isfinite().all():
                raise ModelError(
                    f"the attention of block {heads.layer} is NaN or infinite on one of the "
                    f"contexts {', '.join(map(str, places.contexts.tolist()))}: the model "
                    "overflows there; ingest with --dtype float32"
                )
            self._sums[name][heads.layer] += value.double()
        self._keep_peaks(heads, pattern, places.contexts)

    def _keep_peaks(
        self,
        heads: LayerHeads,
        pattern: Float[Tensor, "batch head destination source"],
        contexts: Int[Tensor, " batch"],
    ) -> None:
        layer, n = heads.layer, pattern.shape[-1]
        gram = self._gram[layer]
        written = torch.einsum("bphe,hef,bphf->bhp", heads.values, gram, heads.values)
        strength = pattern * written.clamp_min(0).sqrt()[:, :, None, :]
        best, place = strength.flatten(2).max(-1)
        attention = pattern.flatten(2).gather(-1, place[..., None])[..., 0]
        new = {
            "strength": best.where(best > 0, -torch.inf),
            "attention": attention,
            "context": contexts[:, None].expand_as(place),
            "destination": place // n,
            "source": place % n,
        }
        peaks = self._peaks
        joined = {
            name: torch.cat([getattr(peaks, name)[layer], value.T], 1)
            for name, value in new.items()
        }
        chosen = joined["strength"].topk(self.k, dim=1).indices
        for name, value in joined.items():
            getattr(peaks, name)[layer] = value.gather(1, chosen)

    def scores(self) -> HeadScores:
        """Means over everything added so far."""
        counts = {"duplicate_token": self.n_duplicate, "induction": self.n_induction}
        n = {name: counts.get(name, self.n_tokens) or torch.nan for name in _SUMS}
        means = {name: self._sums[name] / n[name] for name in _SUMS}
        squared = means.pop("distance_squared")
        means["distance_variance"] = (squared - means["distance"] ** 2).clamp_min(0)
        uniform = {name: value / n[name] for name, value in self._uniform.items()}
        return HeadScores(means, uniform, self.n_tokens, self.n_duplicate, self.n_induction)

    def peaks(self) -> Peaks:
        """The strongest pairs of everything added so far."""
        return self._peaks
