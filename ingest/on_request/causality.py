"""Ablate sampled features over a run's texts, and hold the change of energy against predictions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from energylens.db.index_files import add_measured, index_state
from energylens.db.layout import StoreLayout
from energylens.db.schema import TABLES
from energylens.db.store import Store, open_store
from energylens.errors import UsageError
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.on_request.stored_contexts import stored_contexts
from energylens.ingest.progress import Progress
from energylens.lens.ablation import Agreement, Effect, LensEffect, ablation_effects, agreement
from energylens.lens.batching import batch_of, batches
from energylens.lens.saes import Sae, writes_to_stream
from energylens.queries.catalog import write_catalog

LEAST_ACTIVE = 20
"""Features active on fewer valid tokens are not sampled."""
SIGNIFICANT = 0.05
"""The q of EFAS below which a feature is sampled; controls are drawn from the rest."""
BEST = "trapezoid"
"""The prediction to read: it errs by the third order, the first two below by the second."""
PREDICTIONS = (BEST, "first_order", "gauss_newton", "efas")

_FEATURES = """
SELECT e.feature_id, e.n_active, e.efas, e.q
FROM efas AS e
WHERE e.run_id = $run AND e.sae_id = $sae AND e.variant = 'lens' AND e.n_active >= $least
ORDER BY e.feature_id
"""
_CONTEXTS = """
SELECT DISTINCT c.token_index // $n_ctx AS context_id
FROM feature_codes AS c
WHERE c.run_id = $run AND c.sae_id = $sae AND c.feature_id = $feature
ORDER BY context_id
"""


@dataclass(frozen=True)
class Sampled:
    """A feature that is ablated."""

    feature_id: int
    efas: float
    matched_to: int | None
    """The sampled feature it is a control of; None for a sampled one."""


def measure_effects(
    store: Path,
    run_id: str,
    sae_id: str,
    n_features: int,
    n_contexts: int,
    seed: int,
    progress: Progress,
) -> pl.DataFrame:
    """Rows of `feature_effects` for sampled features and as many controls; they replace what the
    run's index held of them.

    Features are drawn among those whose EFAS is significant (q < 0.05), each with the feature
    among the rest that is active most nearly as often. `n_contexts` bounds the contexts of each.

    Raises:
        UsageError: the SAE does not write to the stream, or the run holds no EFAS of it.
    """
    reopened = reopen(store, run_id)
    sae = reopened.sae(sae_id)
    if not writes_to_stream(sae.target_hook):
        raise UsageError(f"'{sae_id}' does not write to the residual stream")
    layout = StoreLayout(store).run(run_id)
    if index_state(layout) != "fresh":
        raise UsageError(f"the index of '{run_id}' is not fresh; run: energylens index {store}")
    found = []
    with open_store(store) as opened:
        sampled = sample(opened, run_id, sae_id, n_features, seed)
        for number, one in enumerate(sampled):
            progress.step("ablations", number, len(sampled), "features")
            contexts = _contexts(opened, reopened, sae_id, one.feature_id, n_contexts, seed)
            found += _rows(reopened, sae, one, contexts, seed)
        progress.step("ablations", len(sampled), len(sampled), "features")
    schema = TABLES["feature_effects"].arrow
    frame = pl.DataFrame(found).with_columns(
        pl.lit(run_id).alias("run_id"), pl.lit(sae_id).alias("sae_id")
    )
    frame = frame.select(schema.names).sort("energy", "feature_id")
    fits = _agreement_rows(frame, run_id, sae_id)
    tables = {"feature_effects": frame, "effect_agreements": fits}
    with add_measured(layout, tuple(tables), sae_id) as writer:
        for name, rows in tables.items():
            with writer.table(name, sae_id) as out:
                out.write(rows.to_arrow().cast(TABLES[name].arrow))
    write_catalog(store)
    return frame


def sample(store: Store, run_id: str, sae_id: str, n_features: int, seed: int) -> list[Sampled]:
    """Features with significant EFAS, and a rate-matched control of each.

    Raises:
        UsageError: there is no EFAS of the SAE, or no feature to draw.
    """
    names = {"run": run_id, "sae": sae_id, "least": LEAST_ACTIVE}
    known = store.cursor().execute(_FEATURES, names).fetchall()
    chosen = [row for row in known if row[3] is not None and row[3] < SIGNIFICANT]
    rest = {row[0]: row[1] for row in known if row[3] is not None and row[3] >= SIGNIFICANT}
    others = {row[0]: row[2] for row in known}
    if not chosen:
        raise UsageError(
            f"no feature of '{sae_id}' is active on {LEAST_ACTIVE} tokens with an EFAS of "
            f"q < {SIGNIFICANT}"
        )
    generator = np.random.default_rng(seed)
    picked = generator.permutation(len(chosen))[:n_features]
    found = []
    for feature_id, n_active, efas, _ in (chosen[i] for i in sorted(picked)):
        found.append(Sampled(feature_id, efas, None))
        if rest:
            like = most_alike(n_active, rest)
            del rest[like]
            found.append(Sampled(like, others[like], feature_id))
    return found


def most_alike(n_active: int, rest: Mapping[int, int]) -> int:
    """The feature that is active most nearly as often as one is, by the ratio of the counts; `rest`
    has the counts of features."""
    return min(rest, key=lambda feature: abs(np.log(rest[feature] / n_active)))


def agreements(effects: pl.DataFrame) -> Iterator[tuple[str, str, str, Agreement]]:
    """(energy, group, prediction, agreement) of every prediction with what was measured."""
    for (energy,), rows in effects.group_by("energy", maintain_order=True):
        groups = (
            ("sampled", rows.filter(pl.col("matched_to").is_null())),
            ("rate-matched", rows.filter(pl.col("matched_to").is_not_null())),
            ("all", rows),
        )
        for group, part in groups:
            for name in PREDICTIONS:
                pair = part.select(name, "measured").drop_nulls()
                x, y = pair[name].to_numpy(), pair["measured"].to_numpy()
                yield str(energy), group, name, agreement(x, y, name != "efas")


def _agreement_rows(effects: pl.DataFrame, run_id: str, sae_id: str) -> pl.DataFrame:
    rows = []
    for energy, group, prediction, found in agreements(effects):
        row: dict[str, object] = {
            "run_id": run_id,
            "sae_id": sae_id,
            "energy": energy,
            "features": group,
            "prediction": prediction,
            "n": found.n,
        }
        row["correlation"] = found.correlation
        for name in ("slope", "sign_agreement", "relative_error"):
            value, low, high = getattr(found, name)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    frame = pl.DataFrame(rows).with_columns(pl.selectors.float().fill_nan(None))
    names = TABLES["effect_agreements"].arrow.names
    return frame.select(names).sort("energy", "features", "prediction")


def _contexts(
    store: Store, reopened: Reopened, sae_id: str, feature_id: int, most: int, seed: int
) -> list[tuple[list[int], list[int]]]:
    """Ids and next ids of contexts the feature is active in, drawn at random."""
    run = reopened.run
    names = {"run": run.run_id, "sae": sae_id, "feature": feature_id, "n_ctx": run.n_ctx}
    active = [row[0] for row in store.cursor().execute(_CONTEXTS, names).fetchall()]
    picked = np.random.default_rng((seed, feature_id)).permutation(len(active))[:most]
    return stored_contexts(store, reopened.run, sorted(active[i] for i in picked))


def _rows(
    reopened: Reopened,
    sae: Sae,
    one: Sampled,
    contexts: list[tuple[list[int], list[int]]],
    seed: int,
) -> list[dict[str, object]]:
    lens: list[LensEffect] = []
    total: list[Effect] = []
    lengths = [len(ids) for ids, _ in contexts]
    for part in batches(lengths, reopened.instruments.batch_tokens, reopened.model.regime):
        batch = batch_of([contexts[i] for i in part])
        by_lens, by_model = ablation_effects(reopened.model, sae, one.feature_id, batch, seed)
        lens.append(by_lens)
        total.append(by_model)
    predicted = np.concatenate([e.predicted_by_token for e in lens])
    measured = np.concatenate([e.measured_by_token for e in lens])
    varies = len(predicted) > 2 and np.ptp(predicted) > 0 and np.ptp(measured) > 0
    by_token = float(np.corrcoef(predicted, measured)[0, 1]) if varies else None
    return [
        _row(one, len(contexts), "lens", lens, by_token),
        _row(one, len(contexts), "total", total, None),
    ]


def _row(
    one: Sampled,
    n_contexts: int,
    energy: str,
    effects: "list[LensEffect] | list[Effect]",
    by_token: float | None,
) -> dict[str, object]:
    def summed(name: str) -> float:
        return float(sum(getattr(effect, name) for effect in effects))

    return {
        "energy": energy,
        "feature_id": one.feature_id,
        "matched_to": one.matched_to,
        "n_active": sum(effect.n_active for effect in effects),
        "n_contexts": n_contexts,
        "efas": one.efas,
        "first_order": summed("first_order"),
        "gauss_newton": summed("gauss_newton"),
        "trapezoid": summed("trapezoid"),
        "measured": summed("measured"),
        "token_correlation": by_token,
    }
