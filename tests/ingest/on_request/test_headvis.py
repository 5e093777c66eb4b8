"""HeadVis' tree of files: its shape, and its figures against passes by hand."""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.ingest.exchange import headvis
from energylens.ingest.exchange.headvis import export_headvis
from energylens.ingest.on_request import shown_heads
from energylens.ingest.on_request.heads import measure_heads
from energylens.ingest.on_request.shown_heads import ShownContext
from energylens.ingest.progress import Progress
from energylens.lens.models import LanguageModel, read_hooks
from energylens.queries.catalog import open_catalog

METRICS = {
    "self_attention_score", "prev_token_score", "pattern_entropy", "qk_distance",
    "qk_distance_variance", "induction_score",
}  # fmt: skip
OF_A_RUN = {"model_name", "dataset_name", "n_sequences", "seq_len", "dtype", "attn_implementation"}
"""What Neuronpedia's loaders take from config.json, or from pipeline_config in it."""


def read(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path} is no JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def is_histogram(found: Any) -> bool:
    edges, values = found["bin_edges"], found["bin_values"]
    return edges == sorted(set(edges)) and len(values) == len(edges) - 1 and min(values) >= 0


def check_tree(folder: Path) -> None:
    """What the readers of the tree rely on."""
    config = read(folder / "config.json")
    assert read(folder / "server_config.json") == {}
    assert read(folder / "attributions" / "manifest.json") == {}
    assert set(config) | set(config["pipeline_config"]) >= OF_A_RUN
    assert set(config["metric_descriptions"]) == set(config["metrics"]) >= METRICS
    assert config["has_umap"] is False and config["umap_heads"] == []
    heads = [tuple(pair) for pair in config["heads"]]
    assert len(heads) == config["n_layers"] * config["n_heads"]
    rows = read(folder / "scatter_data.json")
    assert [(row["layer"], row["head"]) for row in rows] == heads
    for row in rows:
        assert set(row) == {"layer", "head", *config["metrics"]}
        assert all(value is None or isinstance(value, int | float) for value in row.values())
    pattern = config["head_data_pattern"]
    names = {pattern.format(layer=layer, head=head) for layer, head in heads}
    assert {path.name for path in (folder / "heads").iterdir()} == names
    for name in names:
        check_head(read(folder / "heads" / name), config)


def check_head(head: Any, config: Any) -> None:
    for plot in config["custom_plots"]:
        assert is_histogram(head[plot["key"]])
    for table in config["custom_tables"]:
        weights = [row["weight"] for row in head[table["key"]]]
        assert weights == sorted(weights, reverse=True) and weights
        assert len({row["token"] for row in head[table["key"]]}) == len(weights)
    assert set(config["statistics_display"]) == set(head["statistics"])
    for one in head["sequences"]:
        n, places = one["seq_len"], one["attention_indices"]
        assert len(one["tokens"]) == n and not any("\0" in token for token in one["tokens"])
        assert 1 <= one["interval"] <= config["n_intervals"]
        assert len(places) == len(one["attention_values"]) and places == sorted(set(places))
        assert all(0 <= place % n <= place // n < n for place in places), "no later key"
        inside = [
            value
            for place, value in zip(places, one["attention_values"], strict=True)
            if place % n and place // n
        ]
        assert one["max_activation"] == max(inside, default=0), "as the page works it out"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    path = tmp_path_factory.mktemp("headvis") / "x.lens"
    shutil.copytree(store_path, path)
    measure_heads(path, run_of(path), 2, Progress())
    return path


def run_of(store: Path) -> str:
    return StoreLayout(store).runs()[0].root.name


@pytest.fixture(scope="module")
def tree(measured: Path) -> Path:
    folder = measured.parent / "tree"
    assert export_headvis(measured, run_of(measured), folder, Progress()) == 6
    return folder


@pytest.fixture(scope="module")
def patterns(measured: Path, gpt2: LanguageModel) -> dict[int, tuple[list[int], np.ndarray]]:
    """By context of two tokens and more: its ids and all attention, [layer, head, query, key]."""
    with open_catalog(measured) as store:
        tokens = frame(store, "SELECT context_id, vocab_id FROM tokens ORDER BY token_index")
    found = {}
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(3)]
    for (context,), rows in tokens.group_by("context_id", maintain_order=True):
        ids = torch.tensor([rows["vocab_id"].to_list()])
        cache = read_hooks(gpt2, ids, names)
        if ids.shape[1] > 1:
            pattern = np.stack([cache[name][0].double().numpy() for name in names])
            found[context] = ids[0].tolist(), pattern
    return found


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def test_the_tree_has_the_shape_its_readers_rely_on(tree: Path) -> None:
    check_tree(tree)
    assert not [path for path in tree.parent.iterdir() if path.name.startswith(".tree")]


def test_metrics_are_means_over_all_tokens(
    tree: Path, patterns: dict[int, tuple[list[int], np.ndarray]]
) -> None:
    rows: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    weights: dict[tuple[int, int], list[float]] = defaultdict(list)
    distances = []
    for ids, pattern in patterns.values():
        for q, key in np.ndindex(len(ids), len(ids)):
            if key <= q:
                distances.append(q - key)
        for layer, head in np.ndindex(3, 2):
            a = pattern[layer, head]
            for q in range(len(ids)):
                seen = a[q, : q + 1]
                weights[layer, head] += seen.tolist()
                rows[layer, head, "self_attention_score"].append(a[q, q])
                rows[layer, head, "pattern_entropy"].append(float(-(seen * np.log(seen)).sum()))
                if q:
                    rows[layer, head, "prev_token_score"].append(a[q, q - 1])
                after = [s + 1 for s in range(q) if ids[s] == ids[q]]
                if after:
                    rows[layer, head, "induction_score"].append(a[q, after].sum())
    for row in read(tree / "scatter_data.json"):
        place = row["layer"], row["head"]
        mean = np.average(distances, weights=weights[place])
        expected = {name: np.mean(rows[*place, name]) for name in METRICS if (*place, name) in rows}
        expected["qk_distance"] = mean
        expected["qk_distance_variance"] = np.average(
            (np.array(distances) - mean) ** 2, weights=weights[place]
        )
        assert set(expected) == METRICS
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, abs=2e-4), name


def test_attention_is_the_strongest_of_each_token(
    tree: Path, patterns: dict[int, tuple[list[int], np.ndarray]]
) -> None:
    for layer, head in np.ndindex(3, 2):
        found = read(tree / "heads" / f"L{layer}H{head}.json")
        by_distance: dict[int, float] = defaultdict(float)
        for one in found["sequences"]:
            pattern = patterns[one["sequence_id"]][1][layer, head]
            n = len(pattern)
            kept = np.zeros(n * n)
            kept[one["attention_indices"]] = one["attention_values"]
            for q, row in enumerate(kept.reshape(n, n)):
                expected = np.sort(pattern[q])[::-1][: shown_heads.MOST_KEYS]
                expected = expected[expected >= shown_heads.LEAST]
                np.testing.assert_allclose(np.sort(row[row > 0])[::-1], expected, atol=6e-5)
                np.testing.assert_allclose(row[row > 0], pattern[q][row > 0], atol=6e-5)
                for key in np.flatnonzero(row):
                    by_distance[q - int(key)] += float(row[key])
        told = found["qk_distance_histogram"]
        assert sum(told["bin_values"]) == pytest.approx(sum(by_distance.values()), abs=5e-3)
        for low, high, value in zip(
            told["bin_edges"], told["bin_edges"][1:], told["bin_values"], strict=False
        ):
            expected = sum(w for distance, w in by_distance.items() if low <= distance < high)
            assert value == pytest.approx(expected, abs=5e-3)
        total = sum(row["weight"] for row in found["top_query_tokens"])
        assert total <= sum(by_distance.values()) + 1e-2


def test_intervals_go_by_the_largest_attention(
    tree: Path, patterns: dict[int, tuple[list[int], np.ndarray]]
) -> None:
    for layer, head in np.ndindex(3, 2):
        found = read(tree / "heads" / f"L{layer}H{head}.json")
        largest = {c: a[layer, head, 1:, 1:].max() for c, (_, a) in patterns.items()}
        ranked = sorted(largest, key=largest.__getitem__)
        for one in found["sequences"]:
            assert one["max_activation"] == pytest.approx(largest[one["sequence_id"]], abs=6e-5)
            from_top = len(ranked) - 1 - ranked.index(one["sequence_id"])
            assert one["interval"] == 5 - from_top * 5 // len(ranked)
        assert sum(found["histogram"]["bin_values"]) == len(ranked)
        assert found["statistics"]["mean_max_activation"] == pytest.approx(
            np.mean(list(largest.values())), abs=6e-5
        )


def test_it_is_written_twice_alike_and_never_over_another(measured: Path, tree: Path) -> None:
    again = tree.with_name("again")
    export_headvis(measured, run_of(measured), again, Progress())
    for path in tree.rglob("*.json"):
        assert (again / path.relative_to(tree)).read_bytes() == path.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        export_headvis(measured, run_of(measured), again, Progress())


def test_heads_that_are_not_measured_are_told_of(store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="first run: energylens heads"):
        export_headvis(store_path, run_of(store_path), tmp_path / "tree", Progress())
    assert not list(tmp_path.iterdir())


def test_a_nul_is_written_as_its_picture_and_what_is_not_known_as_null() -> None:
    one = ShownContext(0, 5, ["a\0", "b"], np.array([0, 3]), np.array([1.0, 0.5]), 0.5)
    found = headvis._head([one], np.array([0.5, 1.0000001]), 4)
    assert found["sequences"][0]["tokens"] == ["a␀", "b"]
    assert sum(found["histogram"]["bin_values"]) == 2
    row = dict.fromkeys(
        [*headvis._OURS, "self_token", "previous_token", "entropy", "distance"], 0.5
    )
    row |= {"layer": 0, "head": 0, "n_tokens": 3, "distance_variance": 0.1, "induction": None}
    assert headvis._metrics(row, 1)["induction_score"] is None
