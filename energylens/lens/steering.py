"""Generate text while features are held or added to, several strengths beside each other.

All continuations draw from the same uniform numbers, so that strength 0 is the model's own text and
what differs is due to the edit.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.lens.interventions import Intervention
from energylens.lens.models import LanguageModel, run_hooks


def generate(
    model: LanguageModel,
    prompt: Int[Tensor, " pos"],
    intervention: Intervention | None,
    n_tokens: int,
    temperature: float,
    seed: int,
    tick: Callable[[Int[Tensor, " n_new"]], None],
) -> Int[Tensor, " n_new"]:
    """Up to `n_tokens` new ids; ends early after the model's end-of-text token or a full context.

    The edit acts on every token of prompt and continuation (BOS excepted). `tick` sees the new
    ids so far, and may raise to stop. Temperature 0 takes the likeliest token each time.
    """
    uniforms = torch.rand(n_tokens, generator=torch.Generator().manual_seed(seed))
    ids, last = prompt.clone(), model.resid_post(model.n_layers - 1)
    end = model.tokenizer.eos_token_id
    for step in range(n_tokens):
        if len(ids) >= model.n_ctx:
            break
        tick(ids[len(prompt) :])
        row = ids[None]
        mask = torch.ones_like(row, dtype=torch.bool)
        hooks = [] if intervention is None else intervention.hooks(row, mask)
        _, cache = run_hooks(model, row, mask.long(), [last], edits=hooks)
        chosen = draw(model.readout.logits(cache[last][0, -1:])[0], temperature, uniforms[step])
        ids = torch.cat([ids, chosen[None]])
        if int(chosen) == end:
            break
    return ids[len(prompt) :]


def draw(
    logits: Float[Tensor, " d_vocab"], temperature: float, uniform: Float[Tensor, ""]
) -> Int[Tensor, ""]:
    """The token at which the cumulated probabilities pass `uniform`; the likeliest at 0."""
    if temperature <= 0:
        return logits.argmax()
    cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulated, uniform.double() * cumulated[-1]).clamp_max(
        len(logits) - 1
    )


def perplexity(energies: Float[Tensor, " n"]) -> float:
    """exp of the mean energy; NaN without a token."""
    return float(energies.double().mean().exp()) if len(energies) else float("nan")


def distinct_pairs(ids: Sequence[int]) -> float:
    """Distinct two-token sequences as a share of all (Li et al., 2016); NaN below two tokens."""
    pairs = list(pairwise(ids))
    return len(set(pairs)) / len(pairs) if pairs else float("nan")
