"""Run the gate on a sample of the corpus that every box draws alike."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from energylens.ingest.corpus import Context, Corpus, CorpusPlan
from energylens.ingest.measure import Instruments
from energylens.lens.batching import batches, pad
from energylens.lens.gate import (
    GateResult,
    GateSums,
    ce_losses,
    ce_score,
    encode_tokens,
    reconstruct_tokens,
)
from energylens.lens.models import run_hooks
from energylens.lens.pieces import special_ids
from energylens.lens.saes import Sae, check_fit

SAMPLE_TOKENS = 8_192
"""The gate measures on about so many tokens, spread evenly over the corpus."""
CE_TOKENS = 2_048
"""CE loss recovered costs three forward passes an SAE, so it takes fewer."""


@dataclass(frozen=True)
class GateReport:
    """What the gate found."""

    results: dict[str, GateResult]
    """By sae_id."""
    median_norms: tuple[float, ...]
    """Of each hook of the instruments, over the tokens the gate counts."""


def run_gate(corpus: Corpus, plan: CorpusPlan, instruments: Instruments) -> GateReport:
    """Measure each SAE and the norm of each hook on the sample.

    Counted are real tokens that are neither special nor first in their context: an SAE is judged
    on text, and a sink's norm would drown everything else.

    Raises:
        SaeError: an SAE is of another width than its hook.
    """
    model = instruments.model
    sums = {sae.sae_id: GateSums(sae.d_sae) for sae in instruments.saes}
    losses = {sae.sae_id: np.zeros(4) for sae in instruments.saes}
    norms: list[list[np.ndarray]] = [[] for _ in instruments.hooks]
    n_ce = 0
    names = {*instruments.hooks, *(sae.target_hook for sae in instruments.saes)}
    special = torch.tensor(special_ids(model.tokenizer), dtype=torch.long)
    for contexts in _sample_batches(corpus, plan, instruments):
        ids, mask = pad([c.ids for c in contexts])
        _, cache = run_hooks(model, ids, mask.long(), names)
        counted = mask & ~torch.isin(ids, special)
        counted[:, 0] = False
        if not counted.any():
            counted = mask
        for index, hook in enumerate(instruments.hooks):
            norms[index].append(cache[hook][counted].float().flatten(1).norm(dim=1).numpy())
        for sae in instruments.saes:
            _add(sae, sums[sae.sae_id], cache, mask, counted)
            if n_ce < CE_TOKENS:
                losses[sae.sae_id] += np.array(ce_losses(model, sae, ids, mask))
        n_ce += int(mask.sum())
    return GateReport(
        results={
            sae.sae_id: sums[sae.sae_id].result(sae.declared_l0, _score(losses[sae.sae_id]))
            for sae in instruments.saes
        },
        median_norms=tuple(float(np.median(np.concatenate(found))) for found in norms),
    )


def _add(
    sae: Sae,
    sums: GateSums,
    cache: dict[str, torch.Tensor],
    mask: torch.Tensor,
    counted: torch.Tensor,
) -> None:
    x, target = cache[sae.hook_name], cache[sae.target_hook]
    check_fit(sae, x)
    inside = counted[mask]
    with torch.no_grad():
        codes = encode_tokens(sae, x, mask)[inside]
        output = reconstruct_tokens(sae, x, mask)[inside]
    sums.add(codes, sae.prepare_target(target)[counted].flatten(1), output)


def _score(losses: np.ndarray) -> float | None:
    clean, with_sae, ablated, n = (float(loss) for loss in losses)
    return ce_score(clean, with_sae, ablated, int(n))


def _sample_batches(
    corpus: Corpus, plan: CorpusPlan, instruments: Instruments
) -> Iterator[list[Context]]:
    sample = sample_contexts(corpus, plan, SAMPLE_TOKENS)
    lengths = [len(c.ids) for c in sample]
    for batch in batches(lengths, instruments.batch_tokens, instruments.model.regime):
        yield [sample[i] for i in batch]


def sample_contexts(corpus: Corpus, plan: CorpusPlan, n_tokens: int) -> list[Context]:
    """Contexts of together about `n_tokens` tokens, spread evenly over the corpus."""
    mean = plan.n_tokens / plan.n_contexts
    n = min(plan.n_contexts, max(1, round(n_tokens / mean)))
    wanted = set(np.linspace(0, plan.n_contexts - 1, n).round().astype(int).tolist())
    texts = set((np.searchsorted(plan.first_context, sorted(wanted), side="right") - 1).tolist())
    return [
        context
        for text in corpus.texts(texts.__contains__)
        for context in corpus.contexts(text, plan.first_of(text))
        if context.context_id in wanted
    ]
