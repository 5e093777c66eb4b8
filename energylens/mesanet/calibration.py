"""Thresholds of an exit policy by the scores of given texts, for a given mean depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.errors import ModelError
from energylens.mesanet.exits import TOLD, ExitPolicy, Rule, States, told_scores
from energylens.mesanet.model import MesaNetForCausalLM

CLOSE = 0.005
"""Blocks by which a mean depth may miss what was asked before thresholds are sought again."""
_TRIES = 8
_LOWEST = -torch.finfo(torch.float32).max
"""A threshold under which no score falls, though every token is asked."""


@dataclass(frozen=True)
class Batch:
    """Texts that are run together."""

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    told: Float[Tensor, "blocks batch pos"] | None = None
    """For a rule that reads scores of the whole model's pass; made by `tell`."""


@dataclass(frozen=True)
class WholePass:
    """What stopping after each block but the last would cost, by a pass in which none stops."""

    energy: Float[Tensor, "batch pos"]
    """Of the next token, nats; NaN where there is none."""
    drop: Float[Tensor, "blocks batch pos"]
    foretold: Float[Tensor, "blocks batch pos"]
    """What the heads say of the drop; NaN for padding, and where the model has no heads."""


@torch.no_grad()
def whole_pass(model: MesaNetForCausalLM, batch: Batch) -> WholePass:
    """Energies at every exit and at the end."""
    out = model(batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    assert out.hidden_states is not None, "they were asked for"
    energies = [_energy(model, x, batch) for x in out.hidden_states[1:]]
    foretold = torch.full((len(energies) - 1, *batch.ids.shape), torch.nan)
    if model.exit_heads is not None:
        for layer, x in enumerate(out.hidden_states[1:-1]):
            foretold[layer][batch.mask] = model.exit_heads(layer, x[batch.mask])[:, 0].cpu()
    drop = torch.stack(energies[:-1]) - energies[-1] if foretold.numel() else foretold
    return WholePass(energies[-1], drop, foretold)


@torch.no_grad()
def early_energy(
    model: MesaNetForCausalLM, batch: Batch, policy: ExitPolicy
) -> tuple[Float[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Energy of the next token, NaN where there is none, and depths, under a policy."""
    out = _run(model, batch, policy)
    return _surprisal(out[0], batch), out[1]


def tell(model: MesaNetForCausalLM, batches: Sequence[Batch], rule: Rule) -> list[Batch]:
    """The batches with the scores the rule reads, where it reads any."""
    if rule not in TOLD:
        return list(batches)
    found = []
    for number, batch in enumerate(batches):
        whole = whole_pass(model, batch)
        told = told_scores(rule, whole.drop, whole.foretold, number)
        found.append(replace(batch, told=told.to(batch.ids.device)))
    return found


def calibrate(
    model: MesaNetForCausalLM,
    batches: Sequence[Batch],
    rule: Rule,
    depth: float,
    states: States = "frozen",
    seed: int = 0,
) -> ExitPolicy:
    """The policy whose mean depth over the real tokens of the batches is `depth`.

    One threshold for all blocks, since a drop is worth the same wherever it is foretold; a fixed
    depth that is no whole number lets so many tokens, drawn, go one block further.

    Raises:
        ModelError: there is no such depth, or the model cannot follow the rule.
    """
    n_layers = model.config.num_hidden_layers
    if not 1 <= depth <= n_layers:
        raise ModelError(f"a mean depth of {depth:g} is none of a model of {n_layers} blocks")
    if rule == "fixed depth":
        return by_shares(model, batches, rule, fixed_shares(n_layers, depth), states, seed)
    trial = ExitPolicy(rule, (_LOWEST,) * (n_layers - 1), states, seed)
    given = tell(model, batches, rule)
    runs = [_run(model, batch, trial)[2][:, batch.mask] for batch in given]
    lowest = torch.cat(runs, dim=1).cummin(0).values.flatten()
    aim, best, miss = depth, trial, math.inf
    for _ in range(_TRIES if len(lowest) else 0):
        bound = _under(lowest, 1 - (aim - 1) / (n_layers - 1))
        trial = replace(trial, thresholds=(bound,) * (n_layers - 1))
        found = mean_depth(model, given, trial)
        if abs(found - depth) < miss:
            best, miss = trial, abs(found - depth)
        if miss <= CLOSE:
            break
        aim += depth - found  # states of stopped tokens change what later ones are asked by
    return best


def by_shares(
    model: MesaNetForCausalLM,
    batches: Sequence[Batch],
    rule: Rule,
    shares: Sequence[float],
    states: States = "frozen",
    seed: int = 0,
) -> ExitPolicy:
    """The policy under which, after each block, that share of the tokens still going stops."""
    given, thresholds = tell(model, batches, rule), []
    for layer, share in enumerate(shares):
        if share <= 0 or share >= 1:
            thresholds.append(-math.inf if share <= 0 else math.inf)
            continue
        rest = (math.inf,) * (len(shares) - layer)
        trial = ExitPolicy(rule, (*thresholds, *rest), states, seed)
        asked = torch.cat([_run(model, batch, trial)[2][layer].flatten() for batch in given])
        thresholds.append(_under(asked[~asked.isnan()], share))
    return ExitPolicy(rule, tuple(thresholds), states, seed)


def fixed_shares(n_layers: int, depth: float) -> tuple[float, ...]:
    """Shares that stop after each block but the last, so that all go equally deep."""
    whole = math.floor(depth)
    stops = {whole: whole + 1 - depth, whole + 1: 1.0}
    return tuple(stops.get(block, 0.0) for block in range(1, n_layers))


def shares_of(depths: Int[Tensor, " n"], n_layers: int) -> tuple[float, ...]:
    """After each block but the last, the share of the tokens still going that stopped."""
    going = [int((depths >= block).sum()) for block in range(1, n_layers + 1)]
    return tuple(1 - after / before if before else 0.0 for before, after in pairwise(going))


def mean_depth(model: MesaNetForCausalLM, batches: Sequence[Batch], policy: ExitPolicy) -> float:
    """Blocks a real token goes through, on average."""
    found = torch.cat([_run(model, batch, policy)[1][batch.mask] for batch in batches])
    return float(found.double().mean())


@torch.no_grad()
def _run(
    model: MesaNetForCausalLM, batch: Batch, policy: ExitPolicy
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, depths and scores."""
    out = model(batch.ids, attention_mask=batch.mask.long(), exits=policy, told=batch.told)
    assert out.logits is not None, "the model gives logits"
    assert out.depths is not None and out.exit_scores is not None, "it has exits"
    return out.logits, out.depths, out.exit_scores


def _energy(model: MesaNetForCausalLM, x: Tensor, batch: Batch) -> Tensor:
    return _surprisal(model.lm_head(model.ln_final(x)), batch)


def _surprisal(logits: Float[Tensor, "batch pos d_vocab"], batch: Batch) -> Tensor:
    log_p = logits[:, :-1].float().log_softmax(-1)
    energy = -log_p.gather(-1, batch.ids[:, 1:, None])[..., 0]
    known = batch.mask[:, :-1] & batch.mask[:, 1:]
    found = torch.full(batch.ids.shape, torch.nan)
    found[:, :-1] = energy.masked_fill(~known, torch.nan).cpu()
    return found


def _under(scores: Float[Tensor, " n"], share: float) -> float:
    """A threshold under which that share of the scores lies, half-way between two of them."""
    below = round(share * len(scores))
    if below <= 0 or below >= len(scores):
        return -math.inf if below <= 0 else math.inf
    found = scores.double().sort().values[below - 1 : below + 1]
    return float(found.mean())
