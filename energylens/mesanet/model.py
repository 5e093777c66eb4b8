"""MesaNet as a Hugging Face model, with hook points under the field's names.

It generates with a cache whose size does not grow with the text, takes padding on either side, and
is found by AutoModelForCausalLM once this module has been imported.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from energylens.errors import ModelError
from energylens.mesanet.anchors import Anchors, Routing
from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.early import early_pass
from energylens.mesanet.exits import ExitHeads, ExitPolicy
from energylens.mesanet.features import FeatureRows, RouterFeatures
from energylens.mesanet.mixers import (
    AttentionMixer,
    Convolved,
    LogLinearMixer,
    MesaMixer,
    MesaNetCache,
    MixerCache,
)

_MIXERS = {"mesa": MesaMixer, "attention": AttentionMixer, "log-linear": LogLinearMixer}


@dataclass
class MesaNetOutput(ModelOutput):
    """Logits, the cache, and what routers and solvers did in each block."""

    loss: Float[Tensor, ""] | None = None
    """Mean surprisal of the labels, nats; None without labels."""
    logits: Float[Tensor, "batch pos d_vocab"] | None = None
    past_key_values: MesaNetCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    """The residual stream before each block and after the last, not normed."""
    routing: tuple[Routing, ...] | None = None
    solver_steps: tuple[Int[Tensor, "batch pos"], ...] | None = None
    """Steps of the slowest head; empty for attention."""
    depths: Int[Tensor, "batch pos"] | None = None
    """Blocks each token went through; None where all go through all. Of a pass with exits there are
    no hidden states, routing or steps: few tokens have them all."""
    exit_scores: Float[Tensor, "blocks batch pos"] | None = None
    """What a token was asked by after each block but the last; NaN where it was not asked."""


class Block(nn.Module):
    """`x += mixer(norm x); x += anchors(norm x)`, with hooks on every part."""

    def __init__(self, config: MesaNetConfig, layer: int) -> None:
        super().__init__()
        eps = config.rms_norm_eps
        self.config = config
        self.mixer_norm = nn.RMSNorm(config.hidden_size, eps=eps)
        self.mixer: nn.Module = _MIXERS[config.mixer](config)
        self.mlp_norm = nn.RMSNorm(config.hidden_size, eps=eps)
        self.anchors = Anchors(config, layer)
        self.hook_resid_pre, self.hook_mixer_out = HookPoint(), HookPoint()
        self.hook_resid_mid, self.hook_mlp_out = HookPoint(), HookPoint()
        self.hook_router_logits, self.hook_resid_post = HookPoint(), HookPoint()

    def forward(
        self, x: Tensor, step: "Step", cache: MixerCache
    ) -> tuple[Tensor, Routing, Tensor | None]:
        x = self.hook_resid_pre(x)
        normed, steps = self.mixer_norm(x), None
        if isinstance(self.mixer, MesaMixer):
            mixed, steps = self.mixer(normed, step.mask, cache)
        elif isinstance(self.mixer, LogLinearMixer):
            mixed = self.mixer(normed, step.mask, cache, step.place)
        else:
            mixed = self.mixer(normed, step.mask, cache, step.seen)
        before, worth = x, step.worth(x, self.anchors.layer)
        x = self.hook_resid_mid(x + self.hook_mixer_out(mixed))
        lens = step.lens(x, cache)
        normed = self.mlp_norm(x)
        written, routing = self.anchors(normed, step.ids, step.place, lens, worth, before)
        self.hook_router_logits(routing.logits)
        return self.hook_resid_post(x + self.hook_mlp_out(written)), routing, steps


@dataclass(frozen=True)
class Step:
    """What every block is told of the tokens of one pass."""

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    seen: Bool[Tensor, "batch whole"]
    place: Int[Tensor, "batch pos"]
    """Position among the real tokens, from 0."""
    model: "MesaNetForCausalLM"

    def lens(self, x: Tensor, cache: MixerCache) -> Tensor | None:
        """What the routers of a block are told of its stream, nats; None where they are not."""
        energy = self.model.config.energy
        if energy in ("previous", "previous shuffled"):
            return self.previous_energy(x, cache)
        return self.lens_entropy(x) if energy == "entropy" else None

    @torch.no_grad()
    def lens_entropy(self, x: Tensor) -> Tensor:
        """Entropy of the logit lens, nats."""
        log_p = self.model.lm_head(self.model.ln_final(x)).float().log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)

    @torch.no_grad()
    def previous_energy(self, x: Tensor, cache: MixerCache) -> Tensor:
        """The energy of each token as the lens foretells it from the stream of the real token
        before, nats; for a text's first token that of knowing nothing. Fills the cache."""
        first = x.new_zeros(len(x), 1, x.shape[2]) if cache.last is None else cache.last
        streams = torch.cat([first, x], dim=1)
        here = torch.arange(1, x.shape[1] + 1, device=x.device)
        last = torch.where(self.mask, here, 0).cummax(dim=1).values
        before = functional.pad(last, (1, 0))
        picked = streams.gather(1, before[..., None].expand(-1, -1, x.shape[2]))
        cache.last = picked[:, -1:]
        logits = self.model.lm_head(self.model.ln_final(picked[:, :-1])).float()
        energy = functional.cross_entropy(logits.mT, self.ids, reduction="none")
        return torch.where(self.place > 0, energy, math.log(logits.shape[-1]))

    @torch.no_grad()
    def worth(self, x: Tensor, layer: int) -> Tensor | None:
        """What the head after the block before says the blocks from `layer` on are worth, where
        that decides how many anchors a token gets; nats."""
        if "drop" not in self.model.config.budget or not layer:
            return None
        heads = self.model.exit_heads
        assert heads is not None, "the configuration was checked"
        return heads(layer - 1, x.flatten(0, 1))[:, 0].view(x.shape[:2])


class MesaNetForCausalLM(PreTrainedModel, GenerationMixin):
    """Embedding, blocks, final norm, unembedding (tied by default)."""

    config_class = MesaNetConfig
    base_model_prefix = ""
    _tied_weights_keys = {"lm_head.weight": "embed.weight"}  # noqa: RUF012
    _supports_sdpa = True
    _is_stateful = True

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList(
            Block(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.ln_final = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.exit_heads = ExitHeads(config) if config.exits else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding), "an embedding takes ids"
        self.embed = value

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        assert isinstance(new_embeddings, nn.Linear), "an unembedding is a linear map"
        self.lm_head = new_embeddings

    def add_exits(self, energy: bool, weight: float) -> None:
        """Make every block a place to stop, to be trained; heads that are there stay."""
        config = self.config
        assert isinstance(config, MesaNetConfig), "a MesaNet has its own"
        changed = config.exit_energy != energy
        config.exits, config.exit_energy, config.exit_weight = True, energy, weight
        if self.exit_heads is None or changed:
            self.exit_heads = ExitHeads(config)

    def add_router_features(self, layer: int, rows: FeatureRows, is_shuffled: bool = False) -> None:
        """Show the router of a block features of the stream before it, in place of any that were
        shown before; what they are worth is to be learned. Shuffled, it is told of those of another
        text.

        Raises:
            ModelError: there is no such block, its router sees nothing, or the features are of
                streams of another width.
        """
        config = self.config
        assert isinstance(config, MesaNetConfig), "a MesaNet has its own"
        n, width = rows.encoder.shape
        if width != config.hidden_size:
            raise ModelError(
                f"the features read streams of width {width}, and the model's has "
                f"{config.hidden_size}; take those of an SAE of this model"
            )
        config.show_features(n, layer, is_shuffled)
        for number, block in enumerate(self.blocks):
            anchors = block.anchors
            assert isinstance(anchors, Anchors), "every block has anchors"
            anchors.features = RouterFeatures(config) if number == layer else None
            if anchors.features is not None:
                anchors.features.to(self.embed.weight).take(rows)

    def forward(
        self,
        input_ids: Int[Tensor, "batch pos"],
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: MesaNetCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        exits: ExitPolicy | None = None,
        told: Tensor | None = None,
        **_: Any,
    ) -> MesaNetOutput:
        """Logits of the next token; `attention_mask` is 0 on padding, over cache and input alike.

        `labels` are input ids, shifted here; -100 leaves a position out. With `exits` tokens stop
        early, without a gradient; a cache goes on under the policy it began with. `told` are the
        scores, a block, of a rule that needs them.
        """
        cache = past_key_values or MesaNetCache([MixerCache() for _ in self.blocks])
        step = self._step(input_ids, attention_mask, cache)
        if exits is not None:
            found = early_pass(self, step, cache, exits, told, bool(use_cache))
            before = () if cache.depths is None else (cache.depths,)
            cache.mask, cache.depths = step.seen, torch.cat([*before, found.depths], dim=1)
            logits, loss = self._read_out(found.stream, labels, logits_to_keep)
            return MesaNetOutput(
                loss=loss,
                logits=logits,
                past_key_values=cache if use_cache else None,
                depths=found.depths,
                exit_scores=found.scores,
            )
        x = self.hook_embed(self.embed(input_ids) * self.config.embedding_scale)
        states, routing, steps = [], [], []
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            states.append(x)
            x, routed, solved = block(x, step, layer)
            routing.append(routed)
            steps += [] if solved is None else [solved]
        cache.mask = step.seen
        logits, loss = self._read_out(x, labels, logits_to_keep)
        return MesaNetOutput(
            loss=loss,
            logits=logits,
            past_key_values=cache if use_cache else None,
            hidden_states=(*states, x) if output_hidden_states else None,
            routing=tuple(routing),
            solver_steps=tuple(steps),
        )

    def _read_out(
        self, x: Tensor, labels: Tensor | None, logits_to_keep: int
    ) -> tuple[Tensor, Tensor | None]:
        logits = self.lm_head(self.ln_final(x[:, -logits_to_keep:] if logits_to_keep else x))
        if labels is None:
            return logits, None
        return logits, functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )

    def _step(self, ids: Tensor, attention_mask: Tensor | None, cache: MesaNetCache) -> Step:
        n = ids.shape[1]
        if attention_mask is None:
            before = ids.new_ones(len(ids), 0) if cache.mask is None else cache.mask
            seen = torch.cat([before.bool(), torch.ones_like(ids, dtype=torch.bool)], dim=1)
        else:
            seen = attention_mask.bool()
        place = (seen.long().cumsum(1) - 1).clamp_min(0)[:, -n:]
        return Step(ids, seen[:, -n:], seen, place, self)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the cache is of our own kind, and made by the first pass

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        past_key_values: MesaNetCache | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Only the tokens the cache has not seen."""
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        return {
            "input_ids": input_ids[:, seen:],
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "use_cache": kwargs.get("use_cache", True),
            "exits": kwargs.get("exits"),
        }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Recipe B: a strong embedding and weak mixers, so that no mixer swamps the stream."""
        config = self.config
        depth = 1 / math.sqrt(2 * config.num_hidden_layers)
        if isinstance(module, nn.Embedding):
            module.weight.normal_(std=0.02)
        elif isinstance(module, nn.Linear):
            module.weight.normal_(std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                module.bias.zero_()
        if isinstance(module, (Convolved, AttentionMixer)):
            module.out.weight.mul_(config.mixer_scale * depth)
        if isinstance(module, MesaMixer):
            module.ridge.fill_(math.log(math.expm1(1.0 - config.ridge_bound)))
        if isinstance(module, Convolved):
            module.conv.normal_(std=0.1)
            module.conv[:, -1] += 1.0
            module.gamma.bias.copy_(torch.linspace(0, 6, config.num_attention_heads))
        if isinstance(module, ExitHeads):
            module.weight.zero_()
            module.bias.zero_()
        if isinstance(module, RouterFeatures):
            module.weight.zero_()
        if isinstance(module, Anchors):
            module.prototypes.normal_()
            module.scale.fill_(config.router_scale)
            module.energy_weights.zero_()
            module.balance.zero_()
            last = module.energy_head[2]
            assert isinstance(last, nn.Linear), "the head ends in a linear map"
            last.bias.fill_(3.0)
            for out in (module.down, module.shared_down):
                out.weight.mul_(depth)


AutoConfig.register("mesanet", MesaNetConfig, exist_ok=True)
AutoModelForCausalLM.register(MesaNetConfig, MesaNetForCausalLM, exist_ok=True)
