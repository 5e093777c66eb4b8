"""Change features while a text runs, and see what becomes of it, beside controls."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from energylens.choices import one_of
from energylens.db.store import open_store
from energylens.errors import UsageError
from energylens.ingest.corpus import Context
from energylens.ingest.measure import Measured
from energylens.ingest.on_request.applied_gains import applied
from energylens.ingest.on_request.as_run import keep
from energylens.ingest.on_request.conditions import judge, trigger_of
from energylens.ingest.on_request.prompt import labels, or_none, summed_codes
from energylens.ingest.on_request.reopen import Reopened
from energylens.lens.conditions import Trigger
from energylens.lens.interventions import (
    KINDS,
    UNITS,
    Change,
    Edit,
    Intervention,
    Seen,
    feature_change,
    flipped,
    like_feature_change,
    noise,
    see,
)
from energylens.lens.models import run_hooks
from energylens.lens.saes import Sae
from energylens.protocol import (
    Condition,
    EditRequest,
    FeatureShift,
    InterventionRequest,
    InterventionResult,
    RoutingShift,
    TokenShift,
)

_SHIFTED_TOKENS = 5
"""Next tokens reported at each of as many positions, raised and lowered."""
_SHIFTED_FEATURES = 20


def intervene(reopened: Reopened, asked: InterventionRequest) -> InterventionResult:
    """Run a text clean, with the edit, and with three controls: the sign turned round, noise of
    the same norm, another feature of like strength.

    Raises:
        UsageError: the text does not fit a context, or the edit does not fit the SAE.
    """
    asked, made = _made(reopened, asked)
    sae, change, ids = made.sae, made.change, made.feature_ids
    when = trigger_of(reopened, sae, asked.edit)
    clean = reopened.measure([reopened.context(asked.text, 0, "clean")])
    seen = _seen(reopened, sae, when, clean.contexts[0])
    other, other_ids = made.like(seen, asked.seed)
    changes: list[tuple[str, Change, tuple[int, ...]]] = [
        ("edited", change, ids),
        ("flipped", flipped(change), ids),
        ("noise", noise(change, asked.seed), ()),
        ("like", other, other_ids),
    ]
    found: dict[str, Measured] = {}
    acted: dict[str, list[bool]] = {"clean": [False] * len(clean.contexts[0].ids)}
    for number, (name, made, _) in enumerate(changes, start=1):
        masks: list[Tensor] = []
        positions = edit_positions(asked)
        changed = Intervention(sae, made, reopened.model.bos_id, positions, when, masks.append)
        found[name] = reopened.measure([reopened.context(asked.text, number, name)], changed)
        acted[name] = masks[-1][0].tolist()
    features = {name: ids for name, _, ids in changes}
    clean_log_p = reopened.log_p(clean)
    return InterventionResult(
        tokens=labels(reopened, clean),
        layers=list(clean.lens),
        conditions=[
            _condition(reopened, name, features.get(name, ()), one, clean, clean_log_p, acted[name])
            for name, one in {"clean": clean, **found}.items()
        ],
        shifts=_token_shifts(reopened, clean_log_p, reopened.log_p(found["edited"])),
        features=_feature_shifts(reopened, clean, found["edited"]),
        routing=_routing_shifts(reopened, clean, found["edited"]),
        kept_as=keep(reopened, "intervention", asked, [clean, *found.values()])
        if asked.keep
        else None,
        when=judge(reopened, asked.edit),
    )


@dataclass(frozen=True)
class _Made:
    """An edit of features or gains, ready."""

    sae: Sae
    change: Change
    feature_ids: tuple[int, ...]
    like: Callable[[Seen, int], tuple[Change, tuple[int, ...]]]
    """The control on other features, given what is seen and a seed."""


def _made(reopened: Reopened, asked: InterventionRequest) -> tuple[InterventionRequest, _Made]:
    """What is asked for, with the SAE and the checksum that a file of gains tells."""
    if asked.edit.gains is None:
        sae = reopened.sae(asked.edit.sae_id)
        edit = edit_of(reopened, asked.edit)
        like = partial(like_feature_change, sae, edit)
        return asked, _Made(sae, feature_change(sae, edit), edit.feature_ids, like)
    if asked.edit.feature_ids:
        raise UsageError("gains name their own features; give features or gains, not both")
    found = applied(reopened, asked.edit.gains)
    edit = replace(asked.edit, sae_id=found.sae.sae_id, gains=found.told)
    made = _Made(found.sae, found.change, found.gains.features, found.like)
    return replace(asked, edit=edit), made


def edit_of(reopened: Reopened, asked: EditRequest) -> Edit:
    """The edit that was asked for, with the maxima it may need from the run's index.

    Raises:
        UsageError: kind or unit is unknown, or a maximum is not known.
    """
    kind = one_of("an intervention is one of", asked.kind, KINDS)
    unit = one_of("the unit is one of", asked.unit, UNITS)
    maxima = _maxima(reopened, asked) if unit == "max" else ()
    return Edit(asked.feature_ids, kind, asked.value, unit, maxima)


def edit_positions(asked: InterventionRequest) -> tuple[int, ...] | None:
    """Positions of the edit, which must be whole numbers from 0."""
    chosen = asked.edit.positions
    if chosen is not None and any(p < 0 for p in chosen):
        raise UsageError(f"a position is a number from 0, not {min(chosen)}")
    return chosen


def _maxima(reopened: Reopened, asked: EditRequest) -> tuple[float, ...]:
    with open_store(reopened.store) as store:
        rows = store.cursor().execute(
            "SELECT feature_id, max_activation FROM features WHERE run_id = $run "
            "AND sae_id = $sae AND feature_id IN (SELECT unnest($features::INTEGER[]))",
            {"run": reopened.run.run_id, "sae": asked.sae_id, "features": list(asked.feature_ids)},
        )
        known = {feature: top for feature, top in rows.fetchall() if top}
    missing = [f for f in asked.feature_ids if f not in known]
    if missing:
        raise UsageError(
            f"the run has no maximum of feature {missing[0]} of '{asked.sae_id}': it is never "
            "active, or the run is not indexed; give the value in activations"
        )
    return tuple(known[f] for f in asked.feature_ids)


def _seen(reopened: Reopened, sae: Sae, when: Trigger | None, context: Context) -> Seen:
    """What an edit sees of a clean context."""
    ids = torch.tensor([context.ids])
    mask = torch.ones_like(ids, dtype=torch.bool)
    hooks = {sae.hook_name, sae.target_hook, (when.sae if when else sae).hook_name}
    _, cache = run_hooks(reopened.model, ids, mask.long(), hooks)
    where = mask if reopened.model.bos_id is None else mask & (ids != reopened.model.bos_id)
    if when is not None:
        where = where & when.mask(cache[when.sae.hook_name], mask)
    return see(sae, cache[sae.hook_name], cache[sae.target_hook], where, mask)


def _condition(
    reopened: Reopened,
    name: str,
    feature_ids: tuple[int, ...],
    measured: Measured,
    clean: Measured,
    clean_log_p: Tensor,
    acted: list[bool],
) -> Condition:
    assert measured.output is not None and clean.output is not None, (
        "a reopened run reads the output"
    )
    log_p = reopened.log_p(measured)
    kl = (clean_log_p.exp() * (clean_log_p - log_p)).sum(-1).clamp_min(0)
    difference = measured.output.energy - clean.output.energy
    return Condition(
        name=name,
        feature_ids=list(feature_ids),
        energies=[or_none(value) for value in measured.output.energy.tolist()],
        lens_energies=[
            [or_none(value) for value in one.energy.tolist()] for one in measured.lens.values()
        ],
        kl=kl.tolist(),
        energy_change=float(difference.nanmean()) if not difference.isnan().all() else 0.0,
        acted=acted,
    )


def _token_shifts(reopened: Reopened, before: Tensor, after: Tensor) -> list[TokenShift]:
    """At the tokens the edit moved most, the next tokens it raised and lowered most."""
    p, q = before.exp(), after.exp()
    kl = (p * (before - after)).sum(-1)
    shifts = []
    for pos in kl.topk(min(_SHIFTED_TOKENS, len(kl))).indices.tolist():
        moved = q[pos] - p[pos]
        chosen = [
            *moved.topk(_SHIFTED_TOKENS).indices.tolist(),
            *moved.topk(_SHIFTED_TOKENS, largest=False).indices.tolist(),
        ]
        shifts += [
            TokenShift(pos, reopened.label(i), float(p[pos, i]), float(q[pos, i]))
            for i in chosen
            if float(moved[i].abs()) > 0
        ]
    return shifts


def _feature_shifts(reopened: Reopened, clean: Measured, edited: Measured) -> list[FeatureShift]:
    found = []
    for sae in reopened.instruments.saes:
        before = summed_codes(clean, sae.sae_id, sae.d_sae)
        after = summed_codes(edited, sae.sae_id, sae.d_sae)
        moved = (after - before).abs()
        for feature in moved.topk(min(_SHIFTED_FEATURES, sae.d_sae)).indices.tolist():
            if float(moved[feature]) > 0:
                found.append(
                    FeatureShift(sae.sae_id, feature, float(before[feature]), float(after[feature]))
                )
    return found


def _routing_shifts(reopened: Reopened, clean: Measured, edited: Measured) -> list[RoutingShift]:
    found = []
    for router in reopened.instruments.routers:
        before, after = clean.routes[router.name], edited.routes[router.name]
        changed = (before.choice_ids[:, 0] != after.choice_ids[:, 0]).float().mean()
        p, q = before.logits.softmax(-1), after.logits.softmax(-1)
        moved = 0.5 * (p - q).abs().sum(-1).mean()
        found.append(RoutingShift(router.name, router.layer, float(changed), float(moved)))
    return found
