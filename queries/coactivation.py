"""Which features go together, in one SAE and across SAEs: typed calls of the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def coactivation_partners(
    store: Reader, run: str, sae: str, feature: int, by_unit: str = "token", k: int = 20
) -> pl.DataFrame:
    """One feature's stored partners, by tokens or by texts."""
    return call(
        store, "coactivation_partners", run=run, sae=sae, feature=feature, by_unit=by_unit, k=k
    )


def coactive_pairs(
    store: Reader,
    run: str,
    sae: str,
    by_unit: str = "token",
    with_dense: bool = False,
    least_both: int = 1,
    most_q: float | None = None,
    k: int = 20,
) -> pl.DataFrame:
    """The pairs of features that go together most; most_q None takes every q."""
    return call(
        store,
        "coactive_pairs",
        run=run,
        sae=sae,
        by_unit=by_unit,
        with_dense=with_dense,
        least_both=least_both,
        most_q=most_q,
        k=k,
    )


def coactive_pair(
    store: Reader, run: str, sae: str, feature: int, partner: int, partner_sae: str | None = None
) -> pl.DataFrame:
    """Any two features, by tokens and by texts; partner_sae None is the same SAE."""
    return call(
        store,
        "coactive_pair",
        run=run,
        sae=sae,
        feature=feature,
        partner=partner,
        partner_sae=partner_sae,
    )


def coactive_clusters(
    store: Reader, run: str, sae: str, by_unit: str = "token", k: int = 20
) -> pl.DataFrame:
    """Clusters of features that are active together."""
    return call(store, "coactive_clusters", run=run, sae=sae, by_unit=by_unit, k=k)


def matched_features(
    store: Reader, run: str, sae: str, other_sae: str | None = None, k: int = 20
) -> pl.DataFrame:
    """The best match of each feature in a neighbouring SAE."""
    return call(store, "matched_features", run=run, sae=sae, other_sae=other_sae, k=k)


def matching_features(
    store: Reader, run: str, sae: str, feature: int, other_sae: str, k: int = 10
) -> pl.DataFrame:
    """One feature held against every feature of another SAE."""
    return call(
        store, "matching_features", run=run, sae=sae, feature=feature, other_sae=other_sae, k=k
    )


def feature_evolution(store: Reader, run: str, sae: str, feature: int) -> pl.DataFrame:
    """One feature followed through the layers of its stream."""
    return call(store, "feature_evolution", run=run, sae=sae, feature=feature)
