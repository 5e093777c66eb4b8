"""Features of a stored run that the router of a MesaNet may be shown: where its lens is off."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from energylens.db.index_files import index_state
from energylens.db.layout import StoreLayout
from energylens.db.provenance import RunInfo
from energylens.db.store import Store, open_store
from energylens.errors import UsageError
from energylens.ingest.on_request.causality import SIGNIFICANT, most_alike
from energylens.ingest.on_request.contamination import among
from energylens.ingest.on_request.reopen import reopen_saes
from energylens.lens.models import LanguageModel
from energylens.lens.router_features import block_after, feature_rows
from energylens.lens.saes import Sae
from energylens.mesanet.features import FeatureRows
from energylens.queries.names import find_sae

_TESTED = """
SELECT e.feature_id, e.n_active, e.within, e.q, f.mean_activation
FROM efas AS e
JOIN features AS f
    ON f.run_id = e.run_id AND f.sae_id = e.sae_id AND f.feature_id = e.feature_id
WHERE e.run_id = $run AND e.sae_id = $sae AND e.variant = 'lens' AND e.q IS NOT NULL
    AND f.mean_activation > 0
ORDER BY e.q, abs(e.within) DESC, e.feature_id
"""


@dataclass(frozen=True)
class KnownFeature:
    """A feature whose EFAS by lens was tested."""

    feature_id: int
    n_active: int
    within: float
    """EFAS with window and position means off."""
    q: float
    mean_activation: float
    """Over the tokens it is active on."""


@dataclass(frozen=True)
class Shown:
    """Features for the router of a block, and where they come from."""

    run: RunInfo
    sae: Sae
    layer: int
    chosen: tuple[KnownFeature, ...]
    rows: FeatureRows
    contaminated: int
    """Texts of the run that are among those to be trained on."""


def significant_features(
    store: Path, run_id: str, sae_id: str | None, model: LanguageModel, n: int, texts: str
) -> Shown:
    """The n features of an SAE of a run with the surest EFAS (by q, then by size), for a model that
    is to be trained on `texts`.

    Raises:
        UsageError: the run is of another model, the index is not fresh, fewer features are
            significant, or texts or SAE cannot be read, or not so.
        UnknownNameError: the run has no such SAE.
    """
    with open_store(store) as opened:
        run = opened.run(run_id).info
        if run.model_sha256 != model.weights_sha256:
            raise UsageError(
                f"the run '{run_id}' is not of '{model.source}': the weights of its model, "
                f"'{run.model}', are others; ingest with --model {model.source}"
            )
        if index_state(StoreLayout(store).run(run_id)) != "fresh":
            raise UsageError(f"the index of '{run_id}' is not fresh; run: energylens index {store}")
        info = find_sae(run, sae_id)
        sae = reopen_saes(run, [info])[0]
        layer = block_after(sae, model.n_layers)
        known = [one for one in known_features(opened, run_id, info.sae_id) if one.q < SIGNIFICANT]
        if len(known) < n:
            raise UsageError(
                f"{len(known):,} features of '{info.sae_id}' have a significant EFAS "
                f"(q < {SIGNIFICANT}), fewer than the {n:,} asked for; ask for fewer, or ingest "
                "more texts"
            )
        chosen = tuple(known[:n])
        contaminated = among(opened, run, texts)
    return Shown(run, sae, layer, chosen, rows_of(sae, chosen), contaminated)


def known_features(store: Store, run_id: str, sae_id: str) -> list[KnownFeature]:
    """All features of an SAE whose EFAS was tested, the surest first."""
    rows = store.cursor().execute(_TESTED, {"run": run_id, "sae": sae_id}).fetchall()
    return [KnownFeature(*row) for row in rows]


def rate_matched(
    known: Sequence[KnownFeature], chosen: Sequence[KnownFeature]
) -> list[KnownFeature]:
    """For each of the chosen features, the one without a significant EFAS that is active most
    nearly as often; each is taken once, and fewer are given where there are no more."""
    rest = {one.feature_id: one.n_active for one in known if one.q >= SIGNIFICANT}
    by_id = {one.feature_id: one for one in known}
    found = []
    for one in chosen[: len(rest)]:
        like = most_alike(one.n_active, rest)
        del rest[like]
        found.append(by_id[like])
    return found


def rows_of(sae: Sae, chosen: Sequence[KnownFeature]) -> FeatureRows:
    """The features as a router reads them, scaled by their mean activations.

    Raises:
        SaeError: they cannot be read one by one.
    """
    scale = torch.tensor([one.mean_activation for one in chosen])
    return feature_rows(sae, [one.feature_id for one in chosen], scale)
