"""The tree of files that HeadVis draws heads of attention from (Luger, Kamath et al., 2026,
Visualizing Attention Heads), and that Neuronpedia's loaders read.

    config.json                        the run, its heads, what the metrics mean
    scatter_data.json                  a row for each head
    heads/L{layer}H{head}.json         contexts with their strongest attention, and sums over them
    server_config.json, attributions/  empty: nothing is computed while one looks

Its metrics are means over all tokens: the first of each context, which sees itself alone and which
our own tables leave out, is counted in.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import energylens
from energylens.db.folders import new_folder
from energylens.db.provenance import RunInfo
from energylens.errors import UsageError
from energylens.ingest.exchange.names import without_folder
from energylens.ingest.on_request.reopen import reopen_texts
from energylens.ingest.on_request.shown_heads import (
    LEAST,
    MOST_KEYS,
    N_INTERVALS,
    N_SAMPLED,
    N_STRONGEST,
    ShownContext,
    ShownHeads,
    show_heads,
)
from energylens.ingest.progress import Progress
from energylens.lens.circuits.weights import read_heads
from energylens.queries.catalog import open_catalog
from energylens.queries.heads import MOST_HEADS, head_ranking

_N_BINS, _N_TOKENS = 50, 50
_THEIRS = {
    "self_attention_score": "mean attention of a token to itself",
    "prev_token_score": "mean attention to the token before",
    "pattern_entropy": "mean entropy of the attention of a token, nats",
    "qk_distance": "tokens looked back, mean over all attention",
    "qk_distance_variance": "its variance over all attention",
    "induction_score": "mean attention to what came after earlier places of the same token",
}
_OURS = {
    "duplicate_token": "mean attention to earlier places of the same token",
    "first_token": "mean attention of the others to the first token of their context",
    "output_norm": "mean norm of what the head adds to the stream",
    "copying": "eigenvalues of W_E W_V W_O W_U: their sum over that of their absolute values",
    "matching": "the same of W_E W_Q W_K^T W_E^T",
}


def export_headvis(store: Path, run_id: str, folder: Path, progress: Progress) -> int:
    """Write the tree of a run whose heads are measured; how many heads it has.

    Raises:
        UsageError: the folder is there, the heads are not measured, or the model or the texts are
            not the run's.
        StoreBusyError: another process makes the folder.
        StoreError: the disk cannot be written.
    """
    with new_folder(folder) as tree:
        return _write_tree(store, run_id, tree, progress)


def _write_tree(store: Path, run_id: str, tree: Path, progress: Progress) -> int:
    with open_catalog(store) as opened:
        run = opened.run(run_id).info
        scores = head_ranking(opened, run_id, k=MOST_HEADS).sort("layer", "head")
    if scores.is_empty():
        raise UsageError(
            f"the heads of '{run_id}' are not measured; "
            f"first run: energylens heads {store} {run_id}"
        )
    loaded = reopen_texts(store, run)
    shown = show_heads(loaded, read_heads(loaded.instruments.model), progress)
    for name, content in _files(run, scores, shown):
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    return len(scores)


def _files(run: RunInfo, scores: pl.DataFrame, shown: ShownHeads) -> Iterator[tuple[str, Any]]:
    n = len(shown.largest)
    yield "server_config.json", {}
    yield "attributions/manifest.json", {}
    yield "config.json", _config(run, scores, n)
    yield "scatter_data.json", [_metrics(row, n) for row in scores.iter_rows(named=True)]
    for layer, head in scores.select("layer", "head").iter_rows():
        contexts = sorted(
            shown.by_head[layer, head], key=lambda c: (c.interval, -c.largest, c.context_id)
        )
        largest = shown.largest[:, layer, head]
        yield f"heads/L{layer}H{head}.json", _head(contexts, largest, run.n_ctx)


def _config(run: RunInfo, scores: pl.DataFrame, n_contexts: int) -> dict[str, Any]:
    heads = [list(row) for row in scores.select("layer", "head").iter_rows()]
    kind = scores["kind"][0]
    return {
        "model_name": without_folder(run.model),
        "dataset_name": without_folder(run.texts),
        "heads": heads,
        "n_layers": len({layer for layer, _ in heads}),
        "n_heads": len({head for _, head in heads}),
        "n_intervals": N_INTERVALS,
        "metrics": [*_THEIRS, *_OURS],
        "metric_descriptions": _THEIRS | _OURS,
        "head_data_pattern": "L{layer}H{head}.json",
        "has_umap": False,
        "umap_heads": [],
        "custom_plots": [
            {"key": "qk_distance_histogram", "label": "Tokens looked back"},
            {"key": "histogram", "label": "Largest attention of a context"},
        ],
        "custom_tables": [
            {"key": "top_query_tokens", "label": "Tokens that look"},
            {"key": "top_key_tokens", "label": "Tokens looked at"},
        ],
        "statistics_display": {
            "n_samples": {"label": "Contexts shown", "format": "default"},
            "mean_max_activation": {"label": "Mean largest attention", "format": "default"},
        },
        "pipeline_config": {
            "made_by": f"energylens {energylens.__version__}",
            "run_id": run.run_id,
            "texts_sha256": run.texts_sha256,
            "model_sha256": run.model_sha256,
            "n_sequences": n_contexts,
            "seq_len": run.n_ctx,
            "dtype": run.dtype,
            # a mesa head has no attention: shares of the absolute weights of values stand for it
            "attn_implementation": "eager" if kind == "attention" else kind,
            "samples_per_interval": N_SAMPLED,
            "samples_per_top_interval": N_STRONGEST,
            "sparse_topk_per_row": MOST_KEYS,
            "sparse_threshold": LEAST,
            "induction_attention_threshold": 0.0,
        },
    }


def _metrics(row: dict[str, Any], n_contexts: int) -> dict[str, float | int | None]:
    """A head's means over all tokens, from those without the first of each context."""
    share = row["n_tokens"] / (row["n_tokens"] + n_contexts)
    square = (row["distance_variance"] + row["distance"] ** 2) * share
    distance = row["distance"] * share
    theirs = {
        "self_attention_score": row["self_token"] * share + 1 - share,
        "prev_token_score": row["previous_token"],
        "pattern_entropy": row["entropy"] * share,
        "qk_distance": distance,
        "qk_distance_variance": square - distance**2,
        "induction_score": row["induction"],
    }
    found = theirs | {name: row[name] for name in _OURS}
    place = {"layer": row["layer"], "head": row["head"]}
    return place | {n: None if v is None else round(v, 4) for n, v in found.items()}


def _head(contexts: list[ShownContext], largest: np.ndarray, n_ctx: int) -> dict[str, Any]:
    sequences = [
        {
            "sequence_id": one.context_id,
            "interval": one.interval,
            "tokens": _displayed(one.tokens),
            "attention_indices": one.places.tolist(),
            "attention_values": one.attention.round(4).tolist(),
            "seq_len": len(one.tokens),
            "max_activation": round(one.largest, 4),
        }
        for one in contexts
    ]
    counts, edges = np.histogram(largest.clip(0, 1), _N_BINS, (0.0, 1.0))
    return {
        "sequences": sequences,
        "qk_distance_histogram": _distances(contexts, n_ctx),
        "top_query_tokens": _top_tokens(contexts, 0),
        "top_key_tokens": _top_tokens(contexts, 1),
        "histogram": {"bin_edges": edges.round(4).tolist(), "bin_values": counts.tolist()},
        "statistics": {
            "n_samples": len(contexts),
            "mean_max_activation": round(float(largest.mean(dtype=float)), 4),
        },
    }


def _displayed(tokens: list[str]) -> list[str]:
    """PostgreSQL, which Neuronpedia loads them into, takes no NUL."""
    return [token.replace("\0", "␀") for token in tokens]


def _distances(contexts: list[ShownContext], n_ctx: int) -> dict[str, Any]:
    """Attention by how far back it looks."""
    edges = [0, *(1 << power for power in range(n_ctx.bit_length() + 1))]
    values = np.zeros(len(edges) - 1)
    for one in contexts:
        query, key = np.divmod(one.places, len(one.tokens))
        values += np.histogram(query - key, edges, weights=one.attention)[0]
    return {"bin_edges": edges, "bin_values": values.round(4).tolist()}


def _top_tokens(contexts: list[ShownContext], side: int) -> list[dict[str, Any]]:
    """Tokens by all attention they pay (0) or are paid (1)."""
    weights: dict[str, float] = {}
    for one in contexts:
        tokens = _displayed(one.tokens)
        at = np.divmod(one.places, len(tokens))[side]
        for place, weight in enumerate(np.bincount(at, one.attention, len(tokens)).tolist()):
            weights[tokens[place]] = weights.get(tokens[place], 0.0) + weight
    ranked = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:_N_TOKENS]
    return [{"token": token, "weight": round(weight, 4)} for token, weight in ranked if weight > 0]
