"""Is every anchor used, and do the routes tell anything? Running figures of a training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from energylens.mesanet.anchors import Routing, anchor_load


@dataclass(frozen=True)
class RouterHealth:
    """One block's router over the tokens since the last reading."""

    layer: int
    max_vio: float
    """Load of the busiest anchor over the mean load, less 1 (Wang et al., 2024)."""
    n_dead: int
    """Anchors no token went to."""
    concentration: float
    """1 - mean H(p) / ln K: 1 where every token is sure of one anchor."""
    information: float
    """(H(mean p) - mean H(p)) / ln K: what a route tells of its token; 0 for a collapsed router
    however sure it is."""


class HealthMeter:
    """Adds up what routers did, step by step."""

    def __init__(self) -> None:
        self._load: list[Tensor] = []
        self._mean: list[Tensor] = []
        self._within: list[Tensor] = []
        self._n = 0

    @torch.no_grad()
    def add(self, routing: Sequence[Routing]) -> None:
        """One step's routing, block by block."""
        if not self._n:
            k = routing[0].logits.shape[-1]
            self._load = [routing[0].logits.new_zeros(k) for _ in routing]
            self._mean = [routing[0].logits.new_zeros(k) for _ in routing]
            self._within = [routing[0].logits.new_zeros(()) for _ in routing]
        for layer, one in enumerate(routing):
            p = one.logits.softmax(-1).flatten(0, -2)
            self._load[layer] += anchor_load(one, p.shape[-1])
            self._mean[layer] += p.mean(0)
            self._within[layer] += torch.special.entr(p).sum(-1).mean()
        self._n += 1

    def read(self) -> tuple[RouterHealth, ...]:
        """What was added since the last reading; empty where nothing was."""
        found = tuple(self._of(layer) for layer in range(len(self._load) if self._n else 0))
        self._n = 0
        return found

    def _of(self, layer: int) -> RouterHealth:
        load = self._load[layer].double()
        scale = math.log(len(load)) if len(load) > 1 else math.nan
        within = float(self._within[layer]) / self._n
        marginal = float(torch.special.entr(self._mean[layer].double() / self._n).sum())
        return RouterHealth(
            layer=layer,
            max_vio=float(load.max() / load.mean()) - 1,
            n_dead=int((load == 0).sum()),
            concentration=1 - within / scale,
            information=(marginal - within) / scale,
        )
