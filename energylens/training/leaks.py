"""Does a router see the next token? Its energy may go with the true one only so far.

The energy of a token holds the next token, which no causal figure knows. For any causal c,
corr(c, E) <= sd(E[E | context]) / sd(E), which for a calibrated model is the correlation of its
entropy with its energy.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from energylens.mesanet.model import MesaNetForCausalLM
from energylens.stats.clusters import Interval, jackknife


@dataclass(frozen=True)
class LeakCheck:
    """Correlations with the energy over tokens whose next one is known; intervals by context."""

    ceiling: float
    """Of the output's entropy."""
    predicted: tuple[Interval, ...]
    """Of each block's predicted energy, which is what a router may see."""
    over: tuple[Interval, ...]
    """The same less the ceiling."""

    @property
    def leaks(self) -> list[int]:
        """Blocks above the ceiling with their whole interval: a leak, or a model far from
        calibrated."""
        return [layer for layer, interval in enumerate(self.over) if interval.low > 0]


@torch.no_grad()
def check_leaks(
    model: MesaNetForCausalLM,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> LeakCheck:
    """Run contexts, given as ids and masks `[batch, pos]`, and compare."""
    energies, entropies, seen, windows, first = [], [], [], [], 0
    for ids, mask in batches:
        out = model(ids.to(model.device), attention_mask=mask.long().to(model.device))
        assert out.logits is not None and out.routing is not None, "the model gives both"
        known = mask[:, 1:]
        log_p = out.logits[:, :-1].float().log_softmax(-1).cpu()[known]
        energies.append(functional.nll_loss(log_p, ids[:, 1:][known], reduction="none"))
        entropies.append(-(log_p.exp() * log_p).sum(-1))
        seen.append(
            torch.stack([r.predicted_energy[:, :-1].float().cpu()[known] for r in out.routing])
        )
        windows.append(known.nonzero()[:, 0] + first)
        first += len(ids)
    energy, entropy = (torch.cat(parts).double().numpy() for parts in (energies, entropies))
    predicted = torch.cat(seen, dim=1).double().numpy()

    def figures(kept: Bool[np.ndarray, " n"]) -> np.ndarray:
        rows = np.vstack([energy[kept], entropy[kept], predicted[:, kept]])
        with np.errstate(invalid="ignore"):  # a head that says one number correlates with nothing
            found = np.corrcoef(rows)[0, 1:]
        return np.concatenate([found[1:], found[1:] - found[0], found[:1]])

    found = jackknife(figures, torch.cat(windows).numpy())
    n = len(predicted)
    return LeakCheck(found[-1].value, tuple(found[:n]), tuple(found[n : 2 * n]))
