"""How people rate features, and how far they agree."""

from dataclasses import fields

import polars as pl

from energylens.db.ratings import SCALES, Rating, write_rating
from energylens.db.store import Reader, Store
from energylens.queries.catalog import call, write_catalog


def rated_features(store: Reader, run: str, in_sae: str | None = None) -> pl.DataFrame:
    """Features with ratings, the best first; in_sae None is every SAE."""
    return call(store, "rated_features", run=run, in_sae=in_sae)


def rating_agreement(store: Reader, run: str, in_sae: str | None = None) -> pl.DataFrame:
    """How far each two raters agree, scale by scale; in_sae None is every SAE."""
    return call(store, "rating_agreement", run=run, in_sae=in_sae)


def ratings_of(store: Reader, run: str, sae: str, feature: int) -> list[Rating]:
    """Every rating of a feature, by the names of those who rate."""
    names = [field.name for field in fields(Rating)]
    rows = store.cursor().execute(
        f"SELECT {', '.join(names)} FROM ratings "  # noqa: S608 - names of ours
        "WHERE run_id = $run AND sae_id = $sae AND feature_id = $feature ORDER BY rater",
        {"run": run, "sae": sae, "feature": feature},
    )
    return [Rating(*row) for row in rows.fetchall()]


def numbers_of(rating: Rating) -> tuple[int, ...]:
    """A number for each scale, in the order of `SCALES`."""
    return tuple(getattr(rating, scale) for scale in SCALES)


def keep_rating(store: Store, rating: Rating) -> None:
    """Write a rating into the store and show it in the open catalogue.

    Raises:
        UsageError: a number is outside its scale.
        StoreBusyError: another process writes what is known of this run just now.
        StoreError: the disk cannot be written.
    """
    run = store.layout.run(rating.run_id)
    is_first = not run.ratings.exists()
    write_rating(run, rating)
    if is_first:  # until now the view had no file to read
        store.refresh()
        write_catalog(store.path)
