"""Anchors: low-rank experts that tokens are routed to by prototypes, guided by energy.

All experts are computed as one gated MLP whose hidden units are masked by the routing weights:
exact top-k semantics in dense products, which a CPU does fast.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.features import RouterFeatures


@dataclass(frozen=True)
class Routing:
    """What one router did at every token."""

    logits: Float[Tensor, "batch pos n_anchors"]
    """Before the balancing bias, which only helps to choose."""
    choices: Int[Tensor, "batch pos k"]
    weights: Float[Tensor, "batch pos k"]
    """Of the chosen ones, summing to 1; 0 for a choice beyond the token's budget."""
    seen_energy: Float[Tensor, "batch pos"] | None
    """Nats; None where the router sees none."""
    decided_by: Float[Tensor, "batch pos"] | None
    """Nats, by which a token gets more or fewer anchors; None where all get as many."""
    predicted_energy: Float[Tensor, "batch pos"]
    """Nats, whether the router sees it or not."""
    write: Float[Tensor, "batch pos d_model"]
    """What the anchors add to the residual stream, the shared expert not counted."""


class Anchors(nn.Module):
    """A router, its experts, and one expert every token shares.

    What the router sees passes `hook_seen_energy` [batch, pos], nats, and how strongly each token
    uses each anchor passes `hook_gates` [batch, pos, n_anchors], 0 for those it does not.
    """

    balance: Tensor
    budget_bounds: Tensor

    def __init__(self, config: MesaNetConfig, layer: int) -> None:
        super().__init__()
        d, k, r = config.hidden_size, config.n_anchors, config.anchor_width
        self.config, self.layer = config, layer
        self.key = nn.Linear(d, config.anchor_key_size, bias=False)
        self.prototypes = nn.Parameter(torch.empty(k, config.anchor_key_size))
        self.scale = nn.Parameter(torch.tensor(float(config.router_scale)))
        self.energy_weights = nn.Parameter(torch.zeros(k, 3))
        self.energy_head = nn.Sequential(nn.Linear(d, 32), nn.SiLU(), nn.Linear(32, 1))
        width = config.active_anchors * r if config.router == "dense" else k * r
        self.gate = nn.Linear(d, width, bias=False)
        self.up = nn.Linear(d, width, bias=False)
        self.down = nn.Linear(width, d, bias=False)
        self.shared_gate = nn.Linear(d, config.shared_width, bias=False)
        self.shared_up = nn.Linear(d, config.shared_width, bias=False)
        self.shared_down = nn.Linear(config.shared_width, d, bias=False)
        self.hook_seen_energy, self.hook_gates = HookPoint(), HookPoint()
        self.register_buffer("balance", torch.zeros(k))
        if config.budget != "equal":
            self.register_buffer("budget_bounds", torch.tensor([2.5, 3.5]))
        has_features = config.router_features and config.router_features_layer == layer
        self.features = RouterFeatures(config) if has_features else None

    def forward(
        self,
        x: Float[Tensor, "batch pos d_model"],
        ids: Int[Tensor, "batch pos"],
        place: Int[Tensor, "batch pos"],
        lens: Float[Tensor, "batch pos"] | None = None,
        worth: Float[Tensor, "batch pos"] | None = None,
        stream: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> tuple[Float[Tensor, "batch pos d_model"], Routing]:
        """The block's output, and the routing; `lens` is what the lens says where the router sees
        it, `worth` the foretold drop where it decides the budget, both nats; `stream` what was
        there before the block, where the router sees features of it."""
        predicted = functional.softplus(self.energy_head(x.detach())[..., 0])
        seen = self._seen(predicted.detach(), lens)
        seen = None if seen is None else self.hook_seen_energy(seen)
        logits = self._logits(x, ids, place, seen)
        if self.features is not None:
            assert stream is not None, "blocks hand it on"
            logits = logits + self.features(self._codes(self.features, stream))
        decided_by = self._decided_by(seen, worth)
        hidden = functional.silu(self.gate(x)) * self.up(x)
        if self.config.router == "dense":
            choices = torch.zeros_like(ids)[..., None].expand(
                *ids.shape, self.config.active_anchors
            )
            weights = torch.full(choices.shape, 1 / self.config.active_anchors, device=x.device)
        else:
            count = self._budget(decided_by)
            choices, weights = self._choose(logits, count)
            mask = torch.zeros_like(logits).scatter(-1, choices, weights * count)
            gates = self.hook_gates(mask).repeat_interleave(self.config.anchor_width, dim=-1)
            hidden = hidden * gates
        write = self.down(hidden)
        shared = self.shared_down(functional.silu(self.shared_gate(x)) * self.shared_up(x))
        routing = Routing(logits, choices, weights, seen, decided_by, predicted, write)
        return write + shared, routing

    @torch.no_grad()
    def rebalance(self, routing: Routing, step: float) -> None:
        """Loss-free balancing (Wang et al., 2024, arXiv 2408.15664): make overloaded anchors a
        little less, and underloaded ones a little more likely to be chosen. Where the budget is not
        equal, its bounds follow the thirds of what decides it."""
        load = anchor_load(routing, len(self.balance))
        self.balance += step * (load.mean() - load).sign()
        if routing.decided_by is not None:
            thirds = routing.decided_by.new_tensor([1 / 3, 2 / 3])
            found = routing.decided_by.float().flatten().quantile(thirds)
            self.budget_bounds += 0.05 * (found - self.budget_bounds)

    def _decided_by(self, seen: Tensor | None, worth: Tensor | None) -> Tensor | None:
        if self.config.budget == "equal" or self.config.router == "dense":
            return None
        if self.config.budget == "by_shuffled_drop" and worth is not None:
            return _of_another_text(worth, float(self.budget_bounds.mean()))
        return seen if self.config.budget == "by_energy" else worth

    def _budget(self, decided_by: Tensor | None) -> Tensor | int:
        """How many anchors each token gets."""
        if decided_by is None:
            return self.config.active_anchors
        above = (decided_by[..., None] > self.budget_bounds).sum(-1, keepdim=True)
        return self.config.active_anchors - 1 + above

    def _seen(self, predicted: Tensor, lens: Tensor | None) -> Tensor | None:
        energy = self.config.energy
        if self.config.router != "learned" or energy == "none":
            return None
        if self.layer < self.config.energy_first_layer:
            return None
        if energy in ("predicted", "shuffled"):
            return predicted if energy == "predicted" else _of_another_text(predicted, 3.0)
        assert lens is not None, "the model computes it for this source"
        return _of_another_text(lens, 3.0) if energy == "previous shuffled" else lens

    def _codes(self, features: RouterFeatures, stream: Tensor) -> Tensor:
        codes = features.codes(stream)
        return _of_another_text(codes, 0.0) if self.config.router_features_shuffled else codes

    def _logits(self, x: Tensor, ids: Tensor, place: Tensor, seen: Tensor | None) -> Tensor:
        if self.config.router == "hash":
            return _hashed(ids, self.layer, self.config.n_anchors)
        if self.config.router == "random":
            return _hashed(ids * 8191 + place, self.layer, self.config.n_anchors)
        keys = functional.normalize(self.key(x), dim=-1, eps=1e-6)
        logits = self.scale * keys @ functional.normalize(self.prototypes, dim=-1).T
        if seen is not None:
            share = seen / torch.log(torch.tensor(float(self.config.vocab_size)))
            features = torch.stack([share, share**2, share.clamp(0, 1)], dim=-1)
            logits = logits + features @ self.energy_weights.T
        return logits

    def _choose(self, logits: Tensor, count: Tensor | int) -> tuple[Tensor, Tensor]:
        most = self.config.active_anchors + (self.config.budget != "equal")
        choices = (logits + self.balance).topk(most, dim=-1).indices
        chosen = logits.softmax(-1).gather(-1, choices)
        chosen = chosen * (torch.arange(most, device=chosen.device) < count)
        return choices, chosen / chosen.sum(-1, keepdim=True)


def anchor_load(routing: Routing, n_anchors: int) -> Float[Tensor, " n_anchors"]:
    """Tokens each anchor took, over all ranks."""
    taken = routing.choices[routing.weights > 0]
    return torch.bincount(taken, minlength=n_anchors).float()


def _of_another_text(values: Float[Tensor, "batch pos *n"], alone: float) -> Tensor:
    """What a token at the same place of another text has, which leaks nothing; `alone` for a text
    by itself."""
    return values.roll(1, dims=0) if len(values) > 1 else values * 0 + alone


def _hashed(key: Int[Tensor, "batch pos"], layer: int, n: int) -> Float[Tensor, "batch pos n"]:
    """Logits that are a fixed function of a number and the layer, and look random."""
    lane = torch.arange(n, device=key.device)
    x = key[..., None] * 2_654_435_761 + lane * 40_503 + (layer + 1) * 2_246_822_519
    x = (x ^ (x >> 15)) * 2_246_822_519 % (1 << 31)
    x = (x ^ (x >> 13)) * 3_266_489_917 % (1 << 31)
    return 4.0 * (x ^ (x >> 16)).float() / float(1 << 31)


def balance_losses(
    logits: Float[Tensor, "n n_anchors"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean H(p), H(mean p), both in nats, and the z-loss mean logsumexp^2."""
    p = logits.softmax(-1)
    within = torch.special.entr(p).sum(-1).mean()
    marginal = torch.special.entr(p.mean(0)).sum()
    return within, marginal, logits.logsumexp(-1).square().mean()
