"""Which features of an SAE matter for one number the model computes.

Three measures of a feature's contribution to a metric m, summed over the context's tokens i:

    direct     z_i f * (d_f through the final norm) . (W_U[t] - mean W_U), at the position alone
    gradient   sum_i z_i f * (dm / dx_i . d_f), one backward pass for all features
    ablation   m less m without the feature

The first leaves out what later layers make of a feature; the second is the first-order estimate of
the third (attribution patching; Syed, Rager and Conmy, 2023, arXiv 2310.10348). Faithfulness and
completeness are those of Marks et al., 2024, arXiv 2403.19647.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.lens.gate import encode_tokens, reconstruct_tokens
from energylens.lens.interventions import Change, Edit, Intervention, Seen, feature_change
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.saes import Sae
from energylens.stats.resampling import spearman


@dataclass(frozen=True)
class Prediction:
    """The logit of a token at a position, less the mean over the vocabulary."""

    position: int
    vocab_id: int


@dataclass(frozen=True)
class FeatureMetric:
    """The activation of another SAE's feature at a position."""

    sae: Sae
    feature_id: int
    position: int


Metric = Prediction | FeatureMetric


class Attributor:
    """One context, one SAE, one metric."""

    def __init__(
        self, model: LanguageModel, sae: Sae, ids: Int[Tensor, " pos"], metric: Metric
    ) -> None:
        self.model, self.sae, self.metric = model, sae, metric
        self.ids = ids[None]
        self.mask = torch.ones_like(self.ids, dtype=torch.bool)

    def value(self, change: Change | None = None) -> float:
        """The metric, with a change of the SAE's features or without."""
        hooks = [] if change is None else self._intervention(change).hooks(self.ids, self.mask)
        with torch.no_grad():
            return float(self._run(hooks))

    def gradients(self) -> tuple[Float[Tensor, "pos d_sae"], Float[Tensor, "pos d_sae"]]:
        """Codes, and the metric's derivative by each of them, at every token.

        The derivative is by what a feature writes, codes of other tokens and layers free to follow.
        """
        codes, slope, _ = self.parts()
        return codes, slope

    def parts(
        self,
    ) -> tuple[Float[Tensor, "pos d_sae"], Float[Tensor, "pos d_sae"], Float[Tensor, " pos"]]:
        """The same, and the derivative along what the SAE leaves out at every token, times it."""
        held: dict[str, Tensor] = {}
        sae = self.sae

        def keep(name: str) -> Callable[..., Tensor]:
            def hook(value: Tensor, hook: object) -> Tensor:
                if name == "target" and not value.requires_grad:
                    value = value.detach().requires_grad_(True)
                held[name] = value
                return value

            return hook

        hooks = [(sae.hook_name, keep("source")), (sae.target_hook, keep("target"))]
        with torch.enable_grad():
            metric = self._run(hooks)
            (gradient,) = torch.autograd.grad(metric, held["target"], materialize_grads=True)
        codes, scale = self._codes(held["source"].detach())
        by_output = sae.part(gradient)[0].float().flatten(1)
        slope = by_output @ sae.write_directions.T
        with torch.no_grad():
            target = sae.prepare_target(held["target"])[0].float()
            error = target - reconstruct_tokens(sae, held["source"], self.mask).float()
        by_error = (by_output * error).sum(1)
        return codes, slope if scale is None else slope * scale[:, None], by_error

    def direct(self) -> Float[Tensor, " d_sae"] | None:
        """Direct logit attribution of every feature at the position; None for another metric.

        The final norm is linear once its scale is held at what it is for the whole stream.
        """
        if not isinstance(self.metric, Prediction):
            return None
        at = self.metric.position
        last = self.model.resid_post(self.model.n_layers - 1)
        hooks = (self.sae.hook_name, last)
        _, held = run_hooks(self.model, self.ids, self.mask.long(), hooks)
        codes, scale = self._codes(held[self.sae.hook_name])
        readout = self.model.readout
        column = readout.W_U[:, self.metric.vocab_id] - readout.W_U.mean(1)
        norm = readout.norm
        written = norm.centre(self.sae.write_directions) / norm.scale(held[last][0, at : at + 1])
        found = codes[at] * ((written * norm.gain) @ column) * readout.logit_scale
        return found if scale is None else found * scale[at]

    def without(self, features: Sequence[int]) -> float:
        """The metric with some features ablated."""
        if not features:
            return self.value()
        return self.value(feature_change(self.sae, Edit(tuple(features), "ablate")))

    def keeping(self, features: Sequence[int]) -> float:
        """The metric with all other features ablated."""
        kept = torch.zeros(self.sae.d_sae, dtype=torch.bool)
        kept[list(features)] = True

        def change(seen: Seen) -> Tensor:
            return -((seen.codes * ~kept) @ self.sae.write_directions) * seen.write_scale

        return self.value(change)

    def _intervention(self, change: Change) -> Intervention:
        return Intervention(self.sae, change, self.model.bos_id)

    def _codes(
        self, source: Float[Tensor, "1 pos *d_in"]
    ) -> tuple[Float[Tensor, "pos d_sae"], Float[Tensor, " pos"] | None]:
        """Codes of the context, and how the SAE scales what it writes; None where it does not."""
        with torch.no_grad():
            codes = encode_tokens(self.sae, source, self.mask).float()
            return codes, self.sae.write_scale(source[0].flatten(1))

    def _run(self, hooks: Sequence[tuple[str, Callable]]) -> Float[Tensor, ""]:
        metric, held = self.metric, {}

        def keep(value: Tensor, hook: object) -> None:
            held["metric"] = value

        last = self.model.resid_post(self.model.n_layers - 1)
        read = last if isinstance(metric, Prediction) else metric.sae.hook_name
        self.model.bridge.run_with_hooks(
            self.ids, attention_mask=self.mask.long(), fwd_hooks=[*hooks, (read, keep)]
        )
        if isinstance(metric, Prediction):
            stream = held["metric"][0, metric.position : metric.position + 1]
            logits = self.model.readout.logits(stream)[0]
            return logits[metric.vocab_id] - logits.mean()
        codes = encode_tokens(metric.sae, held["metric"], self.mask)
        return codes[metric.position, metric.feature_id].float()


def curve(
    attributor: Attributor, order: Sequence[int], sizes: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Faithfulness and completeness of the first n features of an order, for each n of `sizes`.

    Both are shares of what all features together do: (m(kept) - m(none)) / (m - m(none)); NaN
    where they do nothing.
    """
    whole, none = attributor.value(), attributor.keeping(())
    room = whole - none

    def share(value: float) -> float:
        return (value - none) / room if abs(room) > 1e-9 else float("nan")

    return (
        [share(attributor.keeping(order[:n])) for n in sizes],
        [share(attributor.without(order[:n])) for n in sizes],
    )


def agreement(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman correlation of two measures; None below three features or where one is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(spearman(np.array(x)[:, None], np.array(y)[:, None])[0])
