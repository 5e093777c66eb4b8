"""What the analyses say of the bundled model, SAEs and texts, as tables.

Writes `docs/findings/analyses.md`, which docs/findings.md reads in plain words.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from energylens.cli.output import print_frame
from energylens.db.store import Store
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactive_clusters, coactive_pairs
from energylens.queries.efas import efas_by_layer, efas_ranking, efas_split, energy_features
from energylens.queries.energies import category_summary, energy_by_layer, settling_summary
from energylens.queries.specialists import (
    layer_progression,
    padding_effect,
    specialist_categories,
    specialist_matrix,
    stream_comparison,
)
from energylens.queries.writing import Format

MODEL = "builtin:llama"
VARIANTS = ("lens", "own", "total", "calibration")
SAE = "blocks.2.hook_resid_post"

_AGREEMENT = """
WITH ranked AS (
    SELECT sae_id, variant, feature_id,
        rank() OVER (PARTITION BY sae_id, variant ORDER BY efas) AS r,
        rank() OVER (PARTITION BY sae_id, variant ORDER BY attribution) AS s
    FROM efas WHERE t IS NOT NULL
)
SELECT a.sae_id, b.variant AS lens_against, count(*) AS n_features, corr(a.r, b.r) AS efas_spearman,
    corr(a.s, b.s) AS attribution_spearman
FROM ranked AS a JOIN ranked AS b ON b.sae_id = a.sae_id AND b.feature_id = a.feature_id
WHERE a.variant = 'lens' AND b.variant IN ('own', 'total', 'position', 'calibration')
GROUP BY ALL ORDER BY ALL
"""
_HALVES = """
SELECT sae_id, variant, count(*) AS n_features, corr(t_even, t_odd) AS t_correlation,
    count(*) FILTER (p_even < 0.001) AS n_selected,
    avg((p_odd < 0.05)::INTEGER) FILTER (p_even < 0.001) AS share_confirmed,
    avg((sign(t_odd) = sign(t_even))::INTEGER) FILTER (p_even < 0.001) AS share_same_sign
FROM efas WHERE t_even IS NOT NULL AND t_odd IS NOT NULL AND variant <> 'energy'
GROUP BY ALL ORDER BY variant, sae_id
"""
_MATCHES = """
SELECT sae_id, other_sae_id, count(*) AS n_features, median(correlation) AS median_correlation,
    avg((correlation > 0.7)::INTEGER) AS share_above_07, median(cosine) AS median_cosine,
    corr(correlation, cosine) AS correlation_with_cosine
FROM feature_matches WHERE rank = 0 GROUP BY ALL ORDER BY ALL
"""


def frame(store: Store, sql: str) -> pl.DataFrame:
    """The rows of a statement."""
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def tables(store: Store, run: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every table with its title."""
    yield "Texts by category", category_summary(store, run)
    layers = energy_by_layer(store, run)
    yield "Energy by layer", layers.filter(layers["is_all"]).drop("category", "is_all")
    settled = settling_summary(store, run)
    yield "Where tokens settle", settled.filter(settled["is_all"]).drop("category", "is_all")
    yield "Specialists by category", specialist_categories(store, run)
    yield "Best specialist of each category and SAE", specialist_matrix(store, run)
    yield "SAEs layer by layer", layer_progression(store, run)
    yield "Streams compared", stream_comparison(store, run)
    yield f"What padding does to {SAE}", padding_effect(store, run, SAE)
    for variant in VARIANTS:
        yield f"EFAS by layer, gradient {variant}", efas_by_layer(store, run, variant)
    yield "EFAS by layer, position (as first defined)", efas_by_layer(store, run, "position")
    yield "Agreement of the lens variant with the others", frame(store, _AGREEMENT)
    yield "EFAS on one half of the contexts and on the other", frame(store, _HALVES)
    yield f"Surest features of {SAE} by EFAS", efas_ranking(store, run, SAE, k=10)
    yield f"The same, selected on one half of {SAE}", efas_split(store, run, SAE, k=10)
    yield f"Features of {SAE} that go with high energy", energy_features(store, run, SAE, k=8)
    low = energy_features(store, run, SAE, is_high=False, k=8)
    yield f"Features of {SAE} that go with low energy", low
    yield f"Pairs of {SAE} by tokens", coactive_pairs(store, run, SAE, k=10)
    yield f"Clusters of {SAE} by tokens", coactive_clusters(store, run, SAE, k=10)
    yield "Features matched between neighbouring layers", frame(store, _MATCHES)


def main() -> None:
    config = IngestConfig(
        model=MODEL, texts="builtin:categories", saes=(MODEL,), efas=VARIANTS, run_id="bundled"
    )
    out = io.StringIO()
    out.write("# The analyses on the bundled model and texts\n\nMade by `make findings`.\n")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "findings.lens"
        ingest(prepare(path, load(config)), Part(), Progress())
        build_indexes(path, Progress())
        with open_catalog(path) as store:
            for title, rows in tables(store, "bundled"):
                shown = rows.with_columns(pl.selectors.float().cast(pl.Float64).round_sig_figs(3))
                out.write(f"\n## {title}\n\n")
                with contextlib.redirect_stdout(out):
                    print_frame(shown, Format.markdown)
    folder = Path(__file__).parents[1] / "docs/findings"
    folder.mkdir(exist_ok=True)
    (folder / "analyses.md").write_text(out.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
