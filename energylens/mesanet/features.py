"""Features of an SAE that a router sees beside its token."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from energylens.mesanet.config import MesaNetConfig


@dataclass(frozen=True)
class FeatureRows:
    """n features of an SAE, each of which is told by the stream alone: with pre = encoder x + bias,
    the activation is pre where it is above the threshold, else 0."""

    encoder: Float[Tensor, "n d_model"]
    bias: Float[Tensor, " n"]
    threshold: Float[Tensor, " n"]
    """Not below 0."""
    scale: Float[Tensor, " n"]
    """Above 0: the activation there is to be expected where the feature is active."""


class RouterFeatures(nn.Module):
    """What features of the stream before a block add to the logits of its router.

    The features are frozen, and no gradient passes to the stream through them. Learned is what each
    is worth to each anchor, which is nothing at first.
    """

    encoder: Tensor
    bias: Tensor
    threshold: Tensor
    scale: Tensor

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__()
        n = config.router_features
        self.register_buffer("encoder", torch.zeros(n, config.hidden_size))
        self.register_buffer("bias", torch.zeros(n))
        self.register_buffer("threshold", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.weight = nn.Parameter(torch.zeros(config.n_anchors, n))

    @torch.no_grad()
    def take(self, rows: FeatureRows) -> None:
        """Read these features from now on."""
        self.encoder.copy_(rows.encoder)
        self.bias.copy_(rows.bias)
        self.threshold.copy_(rows.threshold)
        self.scale.copy_(rows.scale)

    @torch.no_grad()
    def codes(self, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos n"]:
        """Activations over their scales: about 1 where a feature is active."""
        pre = functional.linear(stream, self.encoder, self.bias)
        return torch.where(pre > self.threshold, pre, 0.0) / self.scale

    def forward(self, codes: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch pos n_anchors"]:
        """What they add to the router's logits."""
        return functional.linear(codes, self.weight)
