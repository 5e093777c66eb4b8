"""Masks lifted one by one, against polars over tokens of every kind."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_series_equal

from energylens.db.layout import StoreLayout
from energylens.db.manifest import entry_of, read_manifest, write_manifest
from energylens.db.schema import SINK_NORM_RATIO
from energylens.db.store import Store
from energylens.queries.catalog import open_catalog
from energylens.queries.contexts import activation_samples, top_activations
from energylens.queries.energies import category_summary, energy_by_layer, text_behaviour
from energylens.queries.features import feature_histogram
from energylens.queries.masks import MaskCounts, Unmasked, mask_counts

SAE = "resid"
EVERY = [Unmasked(*lifted) for lifted in product([False, True], repeat=3)]


@pytest.fixture(scope="module")
def masked(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store in which tokens are special, first and sinks, alone and together."""
    path = Path(shutil.copytree(store_path, tmp_path_factory.mktemp("masked") / "x.lens"))
    for shard in StoreLayout(path).runs()[0].complete_shards():
        file = shard / "tokens.parquet"
        tokens = pl.DataFrame(pq.read_table(file))
        number = pl.int_range(pl.len())
        changed = tokens.with_columns(
            is_special=(number % 5 == 1) | (pl.col("pos") == 0) & (number % 2 == 0),
            norm_ratio=pl.when(number % 7 == 2)
            .then(pl.lit(SINK_NORM_RATIO * 2, pl.Float32))
            .when(number % 11 == 3)
            .then(None)
            .otherwise(pl.lit(1.0, pl.Float32)),
        )
        pq.write_table(changed.to_arrow().cast(pq.read_schema(file)), file)
        manifest = read_manifest(shard)
        files = [
            entry_of(shard, file, "tokens", entry.rows) if entry.table == "tokens" else entry
            for entry in manifest.files
        ]
        write_manifest(shard, replace(manifest, files=files))
    with open_catalog(path) as store:
        yield store


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def kept(rows: pl.DataFrame, unmasked: Unmasked) -> pl.DataFrame:
    """Rows under no mask that still holds; from the stored facts."""
    left_out = pl.lit(value=False)
    if not unmasked.special:
        left_out |= pl.col("is_special")
    if not unmasked.first:
        left_out |= pl.col("pos") == 0
    if not unmasked.sinks:
        left_out |= pl.col("norm_ratio").fill_null(0.0) > SINK_NORM_RATIO
    return rows.filter(~left_out)


@pytest.fixture(scope="module")
def tokens(masked: Store) -> pl.DataFrame:
    return frame(
        masked,
        "SELECT t.*, x.category, x.text_id FROM tokens t JOIN contexts USING (run_id, context_id) "
        "JOIN texts x USING (run_id, text_id)",
    )


@pytest.fixture(scope="module")
def codes(masked: Store, tokens: pl.DataFrame) -> pl.DataFrame:
    codes = frame(masked, "SELECT sae_id, token_index, feature_id, activation FROM codes")
    return codes.filter(pl.col("sae_id") == SAE).join(tokens, on="token_index")


def test_each_mask_leaves_something_of_its_own_out(masked: Store, tokens: pl.DataFrame) -> None:
    sizes = {unmasked: len(kept(tokens, unmasked)) for unmasked in EVERY}
    nothing, everything = Unmasked(), Unmasked(True, True, True)
    assert sizes[everything] == len(tokens)
    for one in (Unmasked(special=True), Unmasked(first=True), Unmasked(sinks=True)):
        assert sizes[nothing] < sizes[one] < sizes[everything]
    counted = mask_counts(masked, masked.runs[0].info.run_id)
    assert counted == MaskCounts(
        int(tokens["is_special"].sum()),
        int((tokens["pos"] == 0).sum()),
        int((tokens["norm_ratio"] > SINK_NORM_RATIO).sum()),
    )


@pytest.mark.parametrize("unmasked", EVERY, ids=str)
def test_features_are_asked_with_any_masks(
    masked: Store, codes: pl.DataFrame, unmasked: Unmasked
) -> None:
    run, shown = masked.runs[0].info.run_id, unmasked.asked
    busiest = int(codes["feature_id"].mode()[0])
    own = kept(codes.filter(pl.col("feature_id") == busiest), unmasked)
    strongest = top_activations(masked, run, SAE, busiest, 10_000, **shown)
    assert set(strongest["token_index"]) == set(own["token_index"])
    histogram = feature_histogram(masked, run, SAE, busiest, 5, **shown)
    assert histogram["n"].sum() == len(own)
    assert histogram["bin_low"][0] == pytest.approx(own["activation"].min())
    samples = activation_samples(masked, run, SAE, busiest, 1, 10_000, **shown)
    assert set(samples["token_index"]) == set(own["token_index"])


@pytest.mark.parametrize("unmasked", EVERY, ids=str)
def test_energies_are_asked_with_any_masks(
    masked: Store, tokens: pl.DataFrame, unmasked: Unmasked
) -> None:
    run, shown, own = masked.runs[0].info.run_id, unmasked.asked, kept(tokens, unmasked)
    known = own.drop_nulls("energy")
    by_text = known.group_by("text_id").agg(pl.col("energy").cast(pl.Float64).mean())
    found = text_behaviour(masked, run, **shown).sort("text_id")
    assert_series_equal(
        found["mean_energy"], by_text.sort("text_id")["energy"], check_names=False, rel_tol=1e-6
    )
    summary = category_summary(masked, run, **shown)
    assert (
        summary["n_tokens"].to_list()
        == own.group_by("category").len().sort("category")["len"].to_list()
    )
    overall = energy_by_layer(masked, run, **shown).filter("is_all")
    assert set(overall["n_tokens"]) == {len(known)}


def test_lifted_masks_in_words() -> None:
    assert Unmasked().title == ""
    assert Unmasked(special=True, sinks=True).title == "with special, sink tokens"
    assert not Unmasked() and Unmasked(first=True)
