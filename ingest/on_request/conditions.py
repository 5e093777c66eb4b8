"""Conditions on tokens, made ready for a run's model and judged on the run's texts."""

import math

import numpy as np
import torch

from energylens.db.store import open_store
from energylens.ingest.on_request.probes import category_probe, codes_of, sampled_tokens
from energylens.ingest.on_request.reopen import Reopened
from energylens.lens.conditions import Trigger, check_before, feature_trigger, linear_trigger
from energylens.lens.saes import Sae
from energylens.protocol import EditRequest
from energylens.queries.names import find_sae
from energylens.stats.clusters import clustered_mean
from energylens.stats.logistic import Probe
from energylens.when import (
    COMPARISONS,
    When,
    WhenRate,
    WhenReport,
    check_when,
    when_told,
)


def trigger_of(reopened: Reopened, edited: Sae, asked: EditRequest) -> Trigger | None:
    """The condition of an edit that was asked for; None where it has none.

    Raises:
        UsageError: it says nothing that can be read of this run, or reads after the edit.
    """
    if asked.when is None:
        return None
    when = _in_full(reopened, asked, asked.when)
    sae = reopened.sae(when.sae_id)
    check_before(reopened.model, sae.hook_name, edited.target_hook)
    test = COMPARISONS[when.comparison]
    if when.feature_id is not None:
        return feature_trigger(sae, when.feature_id, test, when.threshold)
    probe = _probe(reopened, when)
    weights = torch.from_numpy(probe.weights).float()
    return linear_trigger(sae, weights, probe.bias, test, log_odds(when.threshold))


def judge(reopened: Reopened, asked: EditRequest) -> WhenReport | None:
    """Where an edit's condition holds in the texts of the run, or in the half of them that its
    probe was not learned on; None where it has none."""
    if asked.when is None:
        return None
    when = _in_full(reopened, asked, asked.when)
    run, sae = reopened.run, find_sae(reopened.run, when.sae_id)
    test = COMPARISONS[when.comparison]
    with open_store(reopened.store) as store:
        tokens = sampled_tokens(store, run)
        codes = codes_of(store, run, sae, tokens, when.feature_id)
    if when.feature_id is None:
        judged = ~tokens.learns
        held = test(_probe(reopened, when).score(codes), log_odds(when.threshold))
        categories = [when.category]
    else:
        judged = np.ones(len(tokens.text_id), dtype=bool)
        held = test(codes[:, [when.feature_id]].toarray()[:, 0], when.threshold)
        categories = sorted({name for name in tokens.category if name is not None})
    held, text, category = held[judged], tokens.text_id[judged], tokens.category[judged]
    return WhenReport(
        condition=when_told(when),
        share=float(held.mean()) if len(held) else 0.0,
        n_tokens=len(held),
        n_texts=len(np.unique(text)),
        rates=[rate_of(str(name), held, category == name, text) for name in categories],
    )


def log_odds(probability: float) -> float:
    """What a probe's score is compared with; infinite at 0 and 1."""
    if probability in (0, 1):
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)


def _in_full(reopened: Reopened, asked: EditRequest, when: When) -> When:
    """The condition with the name of its SAE; the edit's own where it names none."""
    check_when(when)
    sae = find_sae(reopened.run, when.sae_id or asked.sae_id)
    return When(sae.sae_id, when.feature_id, when.category, when.comparison, when.threshold)


def _probe(reopened: Reopened, when: When) -> Probe:
    assert when.category is not None, "checked"
    key = (when.sae_id, when.category)
    if key not in reopened.probes:
        with open_store(reopened.store) as store:
            sae = find_sae(reopened.run, when.sae_id)
            reopened.probes[key] = category_probe(store, reopened.run, sae, when.category)
    return reopened.probes[key]


def rate_of(name: str, held: np.ndarray, is_own: np.ndarray, text: np.ndarray) -> WhenRate:
    """Precision and recall at tokens, texts as clusters."""
    precision = clustered_mean(is_own[held].astype(float), text[held])
    recall = clustered_mean(held[is_own].astype(float), text[is_own])
    ends = [precision.value, precision.low, precision.high, recall.value, recall.low, recall.high]
    told = [None if math.isnan(value) else min(max(value, 0.0), 1.0) for value in ends]
    return WhenRate(name, len(np.unique(text[is_own])), *told)
