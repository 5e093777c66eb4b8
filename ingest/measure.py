"""One block of contexts through the model: everything that is stored of its tokens, as arrays.

Contexts of like length share a batch, padded on the right and masked; what comes out is in token
order again and holds no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from energylens.ingest.corpus import Context
from energylens.lens.batching import batches, pad
from energylens.lens.energy import NO_NEXT, Energies, lens_energies
from energylens.lens.gate import encode_tokens
from energylens.lens.gradients import Variant, model_gradients, token_uniforms
from energylens.lens.interventions import Intervention
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.routers import Router, Routes, record_routing, routes
from energylens.lens.saes import Sae, layer_of, stream_of, writes_to_stream


@dataclass(frozen=True)
class Instruments:
    """What is applied to every token."""

    model: LanguageModel
    saes: tuple[Sae, ...]
    hooks: tuple[str, ...]
    """Every hook read: those of the SAEs, and those asked for beside them."""
    median_norms: tuple[float, ...]
    """Of each hook, from the gate's sample."""
    lens_layers: tuple[int, ...]
    routers: tuple[Router, ...]
    keep_activations: bool
    keep_gradients: bool
    efas: tuple[Variant, ...]
    """The gradients that feature activations are compared with."""
    with_output: bool
    """False where no energies are wanted, so that the pass may stop early."""
    batch_tokens: int
    """Tokens in a batch, padding counted."""
    intervention: Intervention | None = None
    """What is changed while the model runs; None changes nothing."""

    @property
    def gradient_hooks(self) -> tuple[str, ...]:
        """Where the SAEs write to the residual stream, so that a feature has a gradient."""
        targets = (sae.target_hook for sae in self.saes if writes_to_stream(sae.target_hook))
        return tuple(dict.fromkeys(targets)) if self.efas else ()

    @property
    def stop_at_layer(self) -> int | None:
        """The first block nobody needs; None where the whole model is needed."""
        if self.with_output or self.lens_layers or self.routers or not self.hooks:
            return None
        layers = [layer_of(hook) for hook in self.hooks]
        if -1 in layers or max(layers, default=-1) + 1 >= self.model.n_layers:
            return None
        return max(layers) + 1


@dataclass(frozen=True)
class Codes:
    """Non-zero feature activations, in the order (token, feature)."""

    token: np.ndarray
    """int64: row of the token in the block."""
    feature_id: np.ndarray
    activation: np.ndarray


@dataclass
class Measured:
    """What one block gave; rows in token order."""

    contexts: Sequence[Context]
    norm_ratio: np.ndarray
    output: Energies | None
    lens: dict[int, Energies] = field(default_factory=dict)
    codes: dict[str, Codes] = field(default_factory=dict)
    activations: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[tuple[Variant, str], np.ndarray] = field(default_factory=dict)
    """dE/dh by variant and hook, [n, d_model]; NaN where there is no next token."""
    write_scales: dict[str, np.ndarray] = field(default_factory=dict)
    """By SAE, where it scales the output of each token."""
    routes: dict[str, Routes] = field(default_factory=dict)


def measure(instruments: Instruments, contexts: Sequence[Context]) -> Measured:
    """Run a block in batches of contexts of like length and put its tokens in order."""
    order: list[int] = []
    parts: list[_Part] = []
    lengths = [len(c.ids) for c in contexts]
    for batch in batches(lengths, instruments.batch_tokens, instruments.model.regime):
        parts.append(_run(instruments, [contexts[i] for i in batch]))
        order += batch
    return _in_order(contexts, order, parts)


@dataclass
class _Part:
    """What one batch gave, tokens in the order of the batch."""

    norm_ratio: Tensor
    output: Energies | None
    lens: dict[int, Energies]
    codes: dict[str, tuple[Tensor, Tensor, Tensor]]
    activations: dict[str, Tensor]
    gradients: dict[tuple[Variant, str], Tensor]
    write_scales: dict[str, Tensor]
    routes: dict[str, Routes]


def _run(instruments: Instruments, contexts: Sequence[Context]) -> _Part:
    model = instruments.model
    ids, mask = pad([c.ids for c in contexts])
    next_ids, _ = pad([c.next_ids for c in contexts])
    targets = next_ids[mask]
    points = _lens_points(instruments)
    with record_routing(instruments.routers) as recorded:
        _, cache = run_hooks(
            model,
            ids,
            mask.long(),
            {*instruments.hooks, *points},
            instruments.stop_at_layer,
            [] if instruments.intervention is None else instruments.intervention.hooks(ids, mask),
        )
    flat = {name: value[mask] for name, value in cache.items()}
    uniforms = _uniforms(contexts) if "calibration" in instruments.efas else None
    readings = {
        name: lens_energies(
            model.readout, flat[name], targets, wanted, uniforms if wanted else None
        )
        for name, wanted in points.items()
    }
    last = model.resid_post(model.n_layers - 1)
    return _Part(
        norm_ratio=_norm_ratio(instruments, flat, int(mask.sum())),
        output=readings[last] if instruments.with_output else None,
        lens={layer: readings[model.resid_post(layer)] for layer in instruments.lens_layers},
        codes={sae.sae_id: _encode(sae, cache[sae.hook_name], mask) for sae in instruments.saes},
        activations={
            hook: flat[hook].float().flatten(1)
            for hook in (instruments.hooks if instruments.keep_activations else ())
        },
        gradients={
            **_lens_gradients(instruments, readings),
            **_model_gradients(instruments, ids, mask, next_ids),
        },
        write_scales={
            sae.sae_id: scale
            for sae in instruments.saes
            if sae.target_hook in instruments.gradient_hooks
            and (scale := sae.write_scale(flat[sae.hook_name])) is not None
        },
        routes={
            router.name: routes(recorded[router.name], mask.flatten())
            for router in instruments.routers
        },
    )


def _lens_hooks(instruments: Instruments) -> tuple[str, ...]:
    """The hooks whose lens gradient is wanted."""
    hooks = instruments.hooks if instruments.keep_gradients else ()
    reads_lens = "lens" in instruments.efas or "calibration" in instruments.efas
    return (*hooks, *(instruments.gradient_hooks if reads_lens else ()))


def _lens_gradients(
    instruments: Instruments, readings: dict[str, Energies]
) -> dict[tuple[Variant, str], Tensor]:
    found: dict[tuple[Variant, str], Tensor] = {}
    hooks = _lens_hooks(instruments)
    for hook in hooks:
        read = readings[gradient_source(instruments.model, hook)]
        if read.gradient is not None:
            found["lens", hook] = read.gradient
        if read.resampled_gradient is not None and hook in instruments.gradient_hooks:
            found["calibration", hook] = read.resampled_gradient
    return found


def _model_gradients(
    instruments: Instruments, ids: Tensor, mask: Tensor, next_ids: Tensor
) -> dict[tuple[Variant, str], Tensor]:
    found: dict[tuple[Variant, str], Tensor] = {}
    for variant in ("own", "total"):
        if variant in instruments.efas and instruments.gradient_hooks:
            by_hook = model_gradients(
                instruments.model, ids, mask, next_ids, instruments.gradient_hooks, variant == "own"
            )
            for hook, value in by_hook.items():
                gradient = value[mask]
                gradient[next_ids[mask] == NO_NEXT] = torch.nan
                found[variant, hook] = gradient
    return found


def _uniforms(contexts: Sequence[Context]) -> Tensor:
    """A number for each token of a batch, which depends on context and position alone."""
    places = [(c.context_id << 20) + np.arange(len(c.ids)) for c in contexts]
    return token_uniforms(np.concatenate(places))


def gradient_source(model: LanguageModel, hook: str) -> str:
    """Where the lens reads for the gradient at a hook: the residual stream the hook is, or the
    one its block leaves behind, to which an attention or MLP output has been added."""
    return hook if stream_of(hook) == "residual" else model.resid_post(layer_of(hook))


def _lens_points(instruments: Instruments) -> dict[str, bool]:
    """The hooks the lens reads, and whether a gradient is wanted there."""
    model = instruments.model
    points = {model.resid_post(layer): False for layer in instruments.lens_layers}
    if instruments.with_output:
        points[model.resid_post(model.n_layers - 1)] = False
    points.update({gradient_source(model, hook): True for hook in _lens_hooks(instruments)})
    return points


def _norm_ratio(instruments: Instruments, flat: dict[str, Tensor], n: int) -> Tensor:
    ratio = torch.zeros(n) if instruments.hooks else torch.full((n,), torch.nan)
    for hook, median in zip(instruments.hooks, instruments.median_norms, strict=True):
        norm = flat[hook].float().flatten(1).norm(dim=1)
        ratio = torch.maximum(ratio, norm / median if median > 0 else torch.zeros(n))
    return ratio


def _encode(sae: Sae, activation: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        codes = encode_tokens(sae, activation, mask)
    token, feature_id = codes.nonzero(as_tuple=True)
    return token, feature_id, codes[token, feature_id].float()


def _in_order(contexts: Sequence[Context], order: list[int], parts: list[_Part]) -> Measured:
    """Put the tokens of all batches into token order."""
    lengths = np.array([len(c.ids) for c in contexts])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    place = np.concatenate([starts[i] + np.arange(lengths[i]) for i in order])
    to_order = torch.from_numpy(np.argsort(place, kind="stable"))
    first = parts[0]
    return Measured(
        contexts=contexts,
        norm_ratio=torch.cat([p.norm_ratio for p in parts])[to_order].numpy(),
        output=_energies([p.output for p in parts], to_order),
        lens={
            layer: energies
            for layer in first.lens
            if (energies := _energies([p.lens[layer] for p in parts], to_order)) is not None
        },
        codes={
            sae_id: _codes([p.codes[sae_id] for p in parts], parts, place) for sae_id in first.codes
        },
        activations={
            hook: torch.cat([p.activations[hook] for p in parts])[to_order].numpy()
            for hook in first.activations
        },
        gradients={
            key: torch.cat([p.gradients[key] for p in parts])[to_order].numpy()
            for key in first.gradients
        },
        write_scales={
            sae_id: torch.cat([p.write_scales[sae_id] for p in parts])[to_order].numpy()
            for sae_id in first.write_scales
        },
        routes={name: _routes([p.routes[name] for p in parts], to_order) for name in first.routes},
    )


def _energies(parts: Sequence[Energies | None], to_order: Tensor) -> Energies | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return Energies(
        energy=torch.cat([p.energy for p in found])[to_order],
        entropy=torch.cat([p.entropy for p in found])[to_order],
        confidence=torch.cat([p.confidence for p in found])[to_order],
        rank=torch.cat([p.rank for p in found])[to_order],
        top_vocab_id=torch.cat([p.top_vocab_id for p in found])[to_order],
        gradient=None,
    )


def _routes(parts: Sequence[Routes], to_order: Tensor) -> Routes:
    return Routes(
        logits=torch.cat([p.logits for p in parts])[to_order],
        choice_ids=torch.cat([p.choice_ids for p in parts])[to_order],
        weights=torch.cat([p.weights for p in parts])[to_order],
        entropy=torch.cat([p.entropy for p in parts])[to_order],
        margin=torch.cat([p.margin for p in parts])[to_order],
        seen_energy=_maybe([p.seen_energy for p in parts], to_order),
        write_norm=_maybe([p.write_norm for p in parts], to_order),
        solver_steps=_maybe([p.solver_steps for p in parts], to_order),
    )


def _maybe(parts: Sequence[Tensor | None], to_order: Tensor) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found)[to_order] if found else None


def _codes(
    parts: Sequence[tuple[Tensor, Tensor, Tensor]], all_parts: Sequence[_Part], place: np.ndarray
) -> Codes:
    before = np.cumsum([0, *(len(p.norm_ratio) for p in all_parts)])
    token = np.concatenate(
        [place[part[0].numpy() + offset] for part, offset in zip(parts, before, strict=False)]
    )
    in_order = np.argsort(token, kind="stable")
    feature_id = np.concatenate([part[1].numpy() for part in parts])
    activation = np.concatenate([part[2].numpy() for part in parts])
    return Codes(token[in_order], feature_id[in_order], activation[in_order])
