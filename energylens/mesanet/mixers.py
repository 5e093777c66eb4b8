"""What mixes tokens in a block: the mesa layer, and two kinds of attention beside it."""

from dataclasses import dataclass, field
from typing import TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.log_linear import (
    LogLinearInputs,
    LogLinearState,
    log_linear_step,
    log_linear_weights,
    n_levels,
    state_after,
)
from energylens.mesanet.solver import (
    MesaInputs,
    MesaState,
    asked_first,
    mesa_asked,
    mesa_chunked,
    mesa_step,
    mesa_weights,
)


@dataclass
class MixerCache:
    """What one mixer needs of earlier tokens; empty before the first."""

    state: MesaState | None = None
    tail: Float[Tensor, "batch before width"] | None = None
    """Inputs of the short convolution that later tokens still see."""
    keys: Float[Tensor, "batch heads pos d_head"] | None = None
    values: Float[Tensor, "batch heads pos d_head"] | None = None
    heard: Bool[Tensor, "batch pos"] | None = None
    """Which tokens attention may see in this block; None where it may see all real ones."""
    levels: LogLinearState | None = None
    last: Float[Tensor, "batch 1 d_model"] | None = None
    """The stream of the last real token where its energy was read; None where it is not."""


@dataclass
class MesaNetCache:
    """What a model needs of earlier tokens."""

    layers: list[MixerCache]
    mask: Bool[Tensor, "batch pos"] | None = field(default=None)
    """Real tokens among those seen."""
    depths: Int[Tensor, "batch pos"] | None = field(default=None)
    """Blocks each token went through; None where nothing may stop early."""

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen, padding counted."""
        return 0 if self.mask is None else int(self.mask.shape[1])

    def reorder_cache(self, beam_idx: Int[Tensor, " batch"]) -> None:
        """Follow the beams a search keeps."""

        def pick(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.index_select(0, beam_idx)

        self.mask, self.depths = pick(self.mask), pick(self.depths)
        for layer in self.layers:
            if layer.state is not None:
                keys, values = pick(layer.state.keys), pick(layer.state.values)
                assert keys is not None and values is not None, "a state has both"
                layer.state = MesaState(keys, values)
            layer.tail, layer.heard = pick(layer.tail), pick(layer.heard)
            layer.keys, layer.values = pick(layer.keys), pick(layer.values)
            layer.last = pick(layer.last)
            if layer.levels is not None:
                levels, place = pick(layer.levels.levels), pick(layer.levels.place)
                assert levels is not None and place is not None, "a state has both"
                layer.levels = LogLinearState(levels, place)


@dataclass(frozen=True)
class Mixing:
    """What each head makes of each position: `out = weights @ values`, before the head's norm."""

    weights: Float[Tensor, "batch heads pos pos"]
    """Of a mesa head they may be negative, and do not sum to one."""
    values: Float[Tensor, "batch heads pos d_head"]


class Convolved(nn.Module):
    """Queries, keys and values through a short causal convolution, with weights and decays.

    Deviates from flash-linear-attention's layer in that values are convolved too. Padding weighs
    nothing: its beta is zero, it decays nothing and convolves as zeros.
    """

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__()
        d, self.n_heads = config.hidden_size, config.num_attention_heads
        self.config, self.d_head = config, d // config.num_attention_heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.conv = nn.Parameter(torch.empty(3 * d, config.conv_size))
        self.beta = nn.Linear(d, self.n_heads)
        self.gamma = nn.Linear(d, self.n_heads)
        self.norm = nn.RMSNorm(self.d_head, eps=config.rms_norm_eps)
        self.out = nn.Linear(d, d, bias=False)

    def _read(self, x: Tensor, projected: Tensor, mask: Tensor, cache: MixerCache) -> "_Read":
        before = self.config.conv_size - 1
        tail = cache.tail
        if tail is None:
            tail = projected.new_zeros(len(x), before, projected.shape[2])
        whole = torch.cat([tail, projected], dim=1)
        cache.tail = whole[:, whole.shape[1] - before :]
        mixed = functional.conv1d(
            whole.transpose(1, 2), self.conv[:, None], groups=len(self.conv)
        ).transpose(1, 2)
        q, k, v = (self._heads(part) for part in mixed.chunk(3, dim=-1))
        real = mask[:, None].float()
        return _Read(
            q=functional.normalize(functional.silu(q.float()), dim=-1, eps=1e-6),
            k=functional.normalize(functional.silu(k.float()), dim=-1, eps=1e-6),
            v=v.float(),
            beta=self.beta(x).float().sigmoid().transpose(1, 2) * real,
            log_gamma=functional.logsigmoid(self.gamma(x).float()).transpose(1, 2) * real,
        )

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)


class _Read(TypedDict):
    """What both mixers read at every position."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    log_gamma: Tensor


class MesaMixer(Convolved):
    """One solve a token and head."""

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__(config)
        self.ridge = nn.Parameter(torch.empty(self.n_heads, self.d_head))

    def forward(
        self,
        x: Float[Tensor, "batch pos d_model"],
        mask: Bool[Tensor, "batch pos"],
        cache: MixerCache,
    ) -> tuple[Float[Tensor, "batch pos d_model"], Int[Tensor, "batch pos"]]:
        """The mix, and the steps of the slowest head; goes on from `cache` and fills it."""
        inputs = self._inputs(x, self.qkv(x) * mask[..., None], mask, cache)
        config = self.config
        steps = config.solver_steps_train if self.training else config.solver_steps
        tolerance = 0.0 if self.training else config.solver_tolerance
        if x.shape[1] == 1 and cache.state is not None:
            found = mesa_step(inputs, cache.state, steps, tolerance)
        else:
            found = mesa_chunked(inputs, config.chunk_size, steps, tolerance, cache.state)
        cache.state = found.state
        mixed = self.norm(found.out.to(x.dtype)).transpose(1, 2).flatten(2)
        return self.out(mixed), found.steps.amax(dim=1)

    def at(
        self,
        x: Float[Tensor, "batch pos d_model"],
        heard: Bool[Tensor, "batch pos"],
        asks: Bool[Tensor, "batch pos"],
        cache: MixerCache,
    ) -> Float[Tensor, "n d_model"]:
        """The mix at the n tokens that ask, row by row; those heard update the states."""
        projected = x.new_zeros(*x.shape[:2], self.qkv.out_features)
        projected[heard] = self.qkv(x[heard])
        inputs, config = self._inputs(x, projected, heard, cache), self.config
        out, cache.state = mesa_asked(
            inputs,
            asks,
            config.chunk_size,
            config.solver_steps,
            config.solver_tolerance,
            cache.state,
        )
        return self.out(self.norm(out.to(x.dtype)).flatten(1))

    def mixing(
        self, x: Float[Tensor, "batch pos d_model"], mask: Bool[Tensor, "batch pos"]
    ) -> Mixing:
        """The weights of earlier positions in what each head puts out, without a cache."""
        inputs = self._inputs(x, self.qkv(x) * mask[..., None], mask, MixerCache())
        weights = mesa_weights(inputs, self.config.solver_steps, self.config.solver_tolerance)
        return Mixing(weights, inputs.v)

    def _inputs(self, x: Tensor, projected: Tensor, mask: Tensor, cache: MixerCache) -> MesaInputs:
        ridge = functional.softplus(self.ridge.float()) + self.config.ridge_bound
        return MesaInputs(**self._read(x, projected, mask, cache), ridge=ridge)


class LogLinearMixer(Convolved):
    """One state a level, and what each level is worth to a token."""

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__(config)
        self.n_levels = n_levels(config.max_position_embeddings)
        self.scales = nn.Linear(config.hidden_size, self.n_heads * self.n_levels)

    def forward(
        self,
        x: Float[Tensor, "batch pos d_model"],
        mask: Bool[Tensor, "batch pos"],
        cache: MixerCache,
        place: Int[Tensor, "batch pos"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """The mix; goes on from `cache` and fills it. `place` is among the real tokens, from 0."""
        inputs = self._inputs(x, mask, cache, place)
        if cache.levels is None:
            out, cache.levels = log_linear_weights(inputs) @ inputs.v, state_after(inputs)
        else:
            outs = []
            for t in range(x.shape[1]):
                out, cache.levels = log_linear_step(_at(inputs, t), cache.levels)
                outs.append(out)
            out = torch.cat(outs, dim=2)
        return self.out(self.norm(out.to(x.dtype)).transpose(1, 2).flatten(2))

    def mixing(
        self, x: Float[Tensor, "batch pos d_model"], mask: Bool[Tensor, "batch pos"]
    ) -> Mixing:
        """The weights of earlier positions in what each head puts out, without a cache."""
        inputs = self._inputs(x, mask, MixerCache(), _places(mask, x.shape[1]))
        return Mixing(log_linear_weights(inputs), inputs.v)

    def _inputs(self, x: Tensor, mask: Tensor, cache: MixerCache, place: Tensor) -> LogLinearInputs:
        read = self._read(x, self.qkv(x) * mask[..., None], mask, cache)
        scales = functional.softplus(self.scales(x).float())
        scales = scales.unflatten(-1, (self.n_heads, self.n_levels)).transpose(1, 2)
        return LogLinearInputs(**read, scales=scales, place=place)


def _at(inputs: LogLinearInputs, t: int) -> LogLinearInputs:
    """One position."""
    one = slice(t, t + 1)
    return LogLinearInputs(
        inputs.q[:, :, one], inputs.k[:, :, one], inputs.v[:, :, one], inputs.beta[:, :, one],
        inputs.log_gamma[:, :, one], inputs.scales[:, :, one], inputs.place[:, one],
    )  # fmt: skip


class AttentionMixer(nn.Module):
    """Causal attention with rotary positions, half-split as in Llama."""

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__()
        d, self.n_heads = config.hidden_size, config.num_attention_heads
        self.d_head = d // self.n_heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.norm = nn.RMSNorm(self.d_head, eps=config.rms_norm_eps)
        self.out = nn.Linear(d, d, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch pos d_model"],
        mask: Bool[Tensor, "batch pos"],
        cache: MixerCache,
        seen: Bool[Tensor, "batch whole"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """The mix; `seen` marks the real tokens of the cache and of x together."""
        q, k, v = self._turned(x, _places(seen, x.shape[1]))
        if cache.keys is not None and cache.values is not None:
            k, v = torch.cat([cache.keys, k], dim=2), torch.cat([cache.values, v], dim=2)
        cache.keys, cache.values = k, v
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=_allowed(q.shape[2], seen)
        )
        return self.out(self.norm(mixed).transpose(1, 2).flatten(2))

    def at(
        self,
        x: Float[Tensor, "batch pos d_model"],
        heard: Bool[Tensor, "batch whole"],
        asks: Bool[Tensor, "batch pos"],
        cache: MixerCache,
        place: Int[Tensor, "batch pos"],
    ) -> Float[Tensor, "n d_model"]:
        """The mix at the n tokens that ask, row by row, over those heard, the cache's and x's."""
        q, k, v = self._turned(x, place)
        if cache.keys is not None and cache.values is not None:
            k, v = torch.cat([cache.keys, k], dim=2), torch.cat([cache.values, v], dim=2)
        cache.keys, cache.values = k, v
        picks = asked_first(asks)
        if not picks.shape[1]:
            return x.new_zeros(0, x.shape[2])
        asking = q.gather(2, picks[:, None, :, None].expand(-1, self.n_heads, -1, self.d_head))
        allowed = _allowed(x.shape[1], heard)[:, 0]
        allowed = allowed.gather(1, picks[..., None].expand(-1, -1, allowed.shape[2]))[:, None]
        mixed = functional.scaled_dot_product_attention(asking, k, v, attn_mask=allowed)
        mixed = self.norm(mixed).transpose(1, 2).flatten(2)
        return self.out(mixed[asks.gather(1, picks)])

    def mixing(
        self, x: Float[Tensor, "batch pos d_model"], mask: Bool[Tensor, "batch pos"]
    ) -> Mixing:
        """The attention of every head, without a cache."""
        q, k, v = self._turned(x, _places(mask, x.shape[1]))
        scores = (q @ k.mT).float() / self.d_head**0.5
        allowed = _allowed(x.shape[1], mask)
        return Mixing(scores.masked_fill(~allowed, -torch.inf).softmax(-1), v.float())

    def _turned(self, x: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x, its queries and keys turned to where they stand."""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        return _rotate(q, place), _rotate(k, place), v


def _places(seen: Bool[Tensor, "batch whole"], n: int) -> Int[Tensor, "batch n"]:
    """Where the last n positions stand among the real tokens."""
    return (seen.long().cumsum(1) - 1).clamp_min(0)[:, -n:]


def _allowed(n: int, seen: Bool[Tensor, "batch whole"]) -> Bool[Tensor, "batch 1 n whole"]:
    """What the last n positions see: real tokens before them, and themselves."""
    m = seen.shape[1]
    causal = torch.ones(n, m, dtype=torch.bool, device=seen.device).tril(m - n)
    itself = torch.eye(m, dtype=torch.bool, device=seen.device)[m - n :]
    return (causal & seen[:, None, None, :]) | itself


def _rotate(
    x: Float[Tensor, "batch heads pos d_head"], place: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch heads pos d_head"]:
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = (place[..., None] * rates)[:, None]
    cos, sin = angle.cos(), angle.sin()
    first, second = x[..., :half].float(), x[..., half : 2 * half].float()
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([turned.to(x.dtype), x[..., 2 * half :]], dim=-1)
