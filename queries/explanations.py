"""What features are said to stand for."""

from collections.abc import Sequence

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def feature_explanations(store: Reader, run: str, sae: str, feature: int) -> pl.DataFrame:
    """The explanations of one feature, the one that is its label first."""
    return call(store, "feature_explanations", run=run, sae=sae, feature=feature)


def explained_features(
    store: Reader, run: str, pattern: str = "", in_sae: str | None = None, k: int = 1000
) -> pl.DataFrame:
    """Features whose explanation matches a regular expression, the best scored first; in_sae None
    is every SAE."""
    return call(store, "explained_features", run=run, pattern=pattern, in_sae=in_sae, k=k)


def scored_explanations(
    store: Reader,
    run: str,
    in_sae: str | None = None,
    feature: int | None = None,
    k: int = 1000,
) -> pl.DataFrame:
    """Explanations with every score known of them, the best first; in_sae None is every SAE,
    feature None every feature."""
    return call(store, "scored_explanations", run=run, in_sae=in_sae, feature=feature, k=k)


def feature_meanings(
    store: Reader,
    run: str | None,
    sae: str | None,
    of_features: Sequence[int] | None = None,
    k: int = 5,
) -> pl.DataFrame:
    """The label, the star and the `k` strongest tokens of features of an SAE; None is all."""
    return call(store, "feature_meanings", run=run, sae=sae, of_features=of_features, k=k)


def search_features(
    store: Reader,
    run: str,
    words: str,
    in_sae: str | None = None,
    k: int = 50,
    min_score: float | None = None,
) -> pl.DataFrame:
    """Features that some words lead to, by explanations, tokens, contexts, promoted tokens and
    categories, the best first; in_sae None is every SAE."""
    return call(
        store,
        "search_features",
        run=run,
        words=words,
        in_sae=in_sae,
        k=k,
        min_score=min_score,
    )


_JUDGED = """
SELECT e.feature_id, e.description, e.method, e.model,
    d.score AS detection, d.score_low AS detection_low, d.score_high AS detection_high,
    f.score AS fuzzing, f.score_low AS fuzzing_low, f.score_high AS fuzzing_high,
    coalesce(d.n_unanswered, 0) + coalesce(f.n_unanswered, 0) AS n_unanswered
FROM explanations AS e
LEFT JOIN explanation_scores AS d ON (d.run_id, d.sae_id, d.feature_id, d.description, d.method)
    = (e.run_id, e.sae_id, e.feature_id, e.description, e.method)
    AND d.model = e.model AND d.score_type = 'detection' AND d.judge = $judge
LEFT JOIN explanation_scores AS f ON (f.run_id, f.sae_id, f.feature_id, f.description, f.method)
    = (e.run_id, e.sae_id, e.feature_id, e.description, e.method)
    AND f.model = e.model AND f.score_type = 'fuzzing' AND f.judge = $judge
WHERE e.run_id = $run AND e.sae_id = $sae
    AND e.feature_id IN (SELECT unnest($features::BIGINT[]))
ORDER BY e.feature_id, e.method, e.model, e.description
"""


def judged_explanations(
    store: Reader, run: str, sae: str, features: Sequence[int], judge: str
) -> pl.DataFrame:
    """Every explanation of some features beside what one judge said of it, whole names given; NULL
    where it has not judged or gave no answer."""
    given = {"run": run, "sae": sae, "features": list(features), "judge": judge}
    return pl.DataFrame(store.cursor().sql(_JUDGED, params=given).to_arrow_table())
