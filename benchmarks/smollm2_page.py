"""The tables of a study by benchmarks.smollm2, as a page and as Parquet.

    python -m benchmarks.smollm2_page FOLDER

Writes docs/findings/smollm2/tables.md and one Parquet file a table, from the whole store in
FOLDER, that of the model with random weights, the log of the training and what each step took.
"""

import argparse
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.smollm2 import MIDDLE, PARTS, Study
from energylens.cli.output import print_frame
from energylens.db.store import Store
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactive_pairs
from energylens.queries.contexts import top_activations
from energylens.queries.efas import (
    drop_features,
    efas_by_layer,
    efas_ranking,
    efas_split,
    energy_features,
)
from energylens.queries.energies import category_summary, drop_by_category, energy_by_layer
from energylens.queries.energies import settling_summary as settling
from energylens.queries.specialists import (
    layer_progression,
    padding_effect,
    specialist_categories,
    specialist_matrix,
    stream_comparison,
)
from energylens.queries.training_curves import training_curves
from energylens.queries.writing import Format

OUT = Path(__file__).parents[1] / "docs/findings/smollm2"
RUN = "smollm2"
SAE = f"blocks.{MIDDLE}.hook_resid_post"
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Of a training, at which its curve is told."""
_SAES = """
SELECT sae_id, layer, stream, l0, fvu, ce_loss_score, n_dead, n_dense, d_sae
FROM saes WHERE run_id = $run ORDER BY layer, stream
"""
_HALVES = """
SELECT sae_id, variant, count(*) AS n_features, corr(t_even, t_odd) AS t_correlation,
    count(*) FILTER (p_even < 0.001) AS n_selected,
    avg((p_odd < 0.05 AND sign(t_odd) = sign(t_even))::INTEGER) FILTER (p_even < 0.001)
        AS share_confirmed
FROM efas WHERE run_id = $run AND variant IN ('lens', 'calibration') AND t_even IS NOT NULL
GROUP BY ALL ORDER BY variant, sae_id
"""
_PATTERNS = """
SELECT p.sae_id, count(*) AS n_features, avg((p.description IS NOT NULL)::INTEGER) AS explained,
    median(p.balanced_accuracy) AS median_balanced_accuracy,
    avg((p.balanced_accuracy > 0.9)::INTEGER) AS share_above_09
FROM feature_patterns AS p WHERE p.run_id = $run AND p.slot IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""
_EXPLAINED = """
SELECT p.feature_id, p.description, p.recall, p.false_positive_rate, p.balanced_accuracy,
    f.n_active, f.top_category
FROM feature_patterns AS p JOIN features AS f USING (run_id, sae_id, feature_id)
WHERE p.run_id = $run AND p.sae_id = $sae AND p.description IS NOT NULL
ORDER BY p.balanced_accuracy DESC, f.n_active DESC LIMIT 20
"""


def asked(store: Store, sql: str, **names: str) -> pl.DataFrame:
    """The rows of a statement about the run."""
    return pl.DataFrame(store.cursor().sql(sql, params={"run": RUN, **names}).to_arrow_table())


def over_all(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("is_all")).drop("category", "is_all")


def tables(store: Store) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """The name of each table's file, its title, its rows."""
    yield "saes", "SAEs on texts they were not trained on", asked(store, _SAES)
    yield "categories", "Texts by category", category_summary(store, RUN)
    yield "energies", "Energy by layer", over_all(energy_by_layer(store, RUN))
    yield "settling", "Where tokens settle", over_all(settling(store, RUN))
    yield "drops", "What later blocks are worth", over_all(drop_by_category(store, RUN))
    layer = pl.col("layer") == MIDDLE
    own = drop_by_category(store, RUN).filter(layer)
    yield "drops_by_category", f"What the blocks after block {MIDDLE} are worth", own
    yield "specialists", "Best specialist of each category and SAE", specialist_matrix(store, RUN)
    yield "always", "Specialists by category", specialist_categories(store, RUN)
    yield "layers", "SAEs layer by layer", layer_progression(store, RUN)
    yield "streams", "Attention, MLP and residual", stream_comparison(store, RUN)
    yield "padding", f"What padding does to {SAE}", padding_effect(store, RUN, SAE)
    for variant in ("lens", "calibration", "position"):
        yield f"efas_{variant}", f"EFAS by layer, {variant}", efas_by_layer(store, RUN, variant)
    yield "halves", "EFAS on even and on odd texts", asked(store, _HALVES)
    yield "surest", f"Surest features of {SAE}", efas_ranking(store, RUN, SAE, k=10)
    yield "split", "The same, selected on one half", efas_split(store, RUN, SAE, k=10)
    yield "hard", "Features that go with high energy", energy_features(store, RUN, SAE, k=8)
    worth = drop_features(store, RUN, SAE, k=10)
    yield "worth", "Features of tokens to which later blocks are worth much", worth
    little = drop_features(store, RUN, SAE, is_high=False, k=10)
    yield "worth_little", "Features of tokens to which they are worth little", little
    yield "pairs", f"Pairs of {SAE}", coactive_pairs(store, RUN, SAE, k=10)
    yield "patterns", "Features explained by token patterns", asked(store, _PATTERNS)
    yield "explained", f"The best of {SAE}", asked(store, _EXPLAINED, sae=SAE)
    yield "contexts", "Where the best specialist of each category is strongest", contexts(store)


def contexts(store: Store) -> pl.DataFrame:
    """The two strongest places of each category's best specialist, where one was found."""
    best = specialist_matrix(store, RUN).filter((pl.col("sae_id") == SAE) & pl.col("is_found"))
    rows = []
    for category, feature in best.select("category", "feature_id").rows():
        places = pl.col("text_before") + "[" + pl.col("token") + "]" + pl.col("text_after")
        found = top_activations(store, RUN, SAE, feature, k=2)
        rows.append(
            found.select(
                pl.lit(category).alias("kind"), pl.lit(feature).alias("feature_id"),
                "category", "activation", places.alias("context"),
            )
        )  # fmt: skip
    return pl.concat(rows) if rows else pl.DataFrame()


def of_twin(store: Store) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """The same of the model with random weights, as far as it can be beside it."""
    yield "random_saes", "Random weights: the SAE", asked(store, _SAES)
    yield "random_energies", "Random weights: energy", over_all(energy_by_layer(store, RUN))
    yield "random_drops", "Random weights: drop", over_all(drop_by_category(store, RUN))
    yield "random_specialists", "Random weights: specialists", specialist_matrix(store, RUN)
    for variant in ("lens", "calibration"):
        found = efas_by_layer(store, RUN, variant)
        yield f"random_efas_{variant}", f"Random weights: EFAS, {variant}", found
    yield "random_halves", "Random weights: two halves", asked(store, _HALVES)
    yield "random_patterns", "Random weights: token patterns", asked(store, _PATTERNS)


def curves(folder: Path) -> pl.DataFrame:
    """Each SAE's fvu along its training, in shares of it."""
    rows = []
    for curve in training_curves(folder):
        if curve.metric == "fvu":
            last = curve.steps[-1]
            places = [sum(step <= share * last for step in curve.steps) - 1 for share in SHARES]
            told = {
                f"{share:.0%}": curve.values[max(0, n)]
                for share, n in zip(SHARES, places, strict=True)
            }
            rows.append({"sae": curve.sae, **told})
    return pl.DataFrame(rows)


def costs(study: Study) -> pl.DataFrame:
    """What each step took; tokens of a store where it made one."""
    rows = []
    for one in json.loads((study.folder / "steps.json").read_text()):
        part = re.search(r"1/(\d+)", one["name"])
        tokens = None
        if part:
            with open_catalog(study.store(int(part[1]))) as store:
                tokens = store.run(RUN).info.n_tokens
        rate = tokens / one["seconds"] if tokens else None
        rows.append({**one, "tokens": tokens, "tokens_per_second": rate})
    return pl.DataFrame(rows)


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("folder", type=Path)
    given.add_argument("--part", type=int, default=PARTS[-1], help="which store is told of")
    given.add_argument("--out", type=Path, default=OUT)
    names = given.parse_args()
    study = Study(names.folder, Path(), Path(), 0)
    names.out.mkdir(parents=True, exist_ok=True)
    with open_catalog(study.store(names.part)) as store, open_catalog(study.twin_store) as twin:
        found = [
            ("steps", "What each step took", costs(study)),
            ("curves", "fvu along the training, on what it had not read yet", curves(study.saes)),
            *tables(store),
            *of_twin(twin),
        ]
    page = io.StringIO()
    page.write("# SmolLM2-135M in tables\n\nMade by `make smollm2`; read in ../smollm2.md.\n")
    for name, title, rows in found:
        rows.write_parquet(names.out / f"{name}.parquet")
        page.write(f"\n## {title}\n\n")
        shown = rows.with_columns(pl.selectors.float().cast(pl.Float64).round_sig_figs(3))
        with contextlib.redirect_stdout(page):
            print_frame(shown, Format.markdown)
    (names.out / "tables.md").write_text(page.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
