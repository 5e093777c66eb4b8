"""Two runs held against each other: models, corpora, checkpoints or SAEs.

Texts are the units of every test. Where both runs read the same texts, differences are taken text
by text; else the texts of either are two samples.
"""

from dataclasses import dataclass

import polars as pl

from energylens.db.store import Store
from energylens.queries.names import find_run
from energylens.queries.two_runs import compare_saes


@dataclass(frozen=True)
class Comparison:
    """What two runs differ in."""

    is_paired: bool
    """Both read the same texts, so that differences are taken text by text."""
    unit: str
    """What `energies` are per: token, or character where the tokenizers differ."""
    energies: pl.DataFrame
    """By category (None for all): means, difference (other less first), 95 % interval, p, q."""
    saes: pl.DataFrame
    """`compare_saes`."""
    features: pl.DataFrame
    """Features of the SAEs both used, or matched by activation: rates and EFAS with tests, the
    surest change first."""
    specialists: pl.DataFrame
    """Best specialist of each category and place in both, with a test of their strong texts."""


def compare_runs(store: Store, run: str, other_run: str, k: int = 20) -> Comparison:
    """Compare two runs of a store; `k` features are listed for each pair of SAEs.

    Raises:
        UnknownNameError: the store has no such run.
    """
    from energylens.queries import differences  # loads scipy, which takes most of a second

    one, other = find_run(store.infos, run), find_run(store.infos, other_run)
    run, other_run = one.run_id, other.run_id
    is_paired = one.texts_sha256 == other.texts_sha256
    unit = "token" if one.tokenizer_sha256 == other.tokenizer_sha256 else "character"
    saes = compare_saes(store, run, other_run)
    parts = [
        differences.features(store, one, other, row, is_paired, k)
        for row in saes.iter_rows(named=True)
    ]
    found = [part for part in parts if part is not None]
    return Comparison(
        is_paired=is_paired,
        unit=unit,
        energies=differences.energies(store, run, other_run, is_paired, unit),
        saes=saes,
        features=pl.concat(found, how="diagonal_relaxed") if found else pl.DataFrame(),
        specialists=differences.specialists(store, run, other_run, is_paired),
    )
