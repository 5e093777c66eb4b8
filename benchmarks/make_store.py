"""Make a store of many codes without a model: feature rates fall off as in a trained SAE."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from energylens.db.index_files import replace_index
from energylens.db.layout import StoreLayout
from energylens.db.provenance import RunInfo, SaeInfo, write_run
from energylens.db.shards import write_shard
from energylens.db.table import GRADIENTS_OF_CODES
from energylens.db.version import create_store
from energylens.queries.catalog import write_catalog

RUN, SAE = "synthetic", "blocks.8.hook_resid_pre"
N_CTX = 128


def make_store(path: Path, n_tokens: int, d_sae: int, l0: float, with_codes: bool = True) -> None:
    """One run of one SAE: `n_tokens * l0` codes, or with `with_codes` False the features alone."""
    create_store(path)
    layout = StoreLayout(path).run(RUN)
    layout.root.mkdir(parents=True)
    write_run(layout.run_json, make_run(n_tokens, d_sae, l0))
    generator = np.random.default_rng(0)
    with write_shard(layout, 0, ("texts", "contexts", "tokens")) as writer:
        for name, table in token_tables(n_tokens):
            writer.write(name, table)
    rates = generator.lognormal(0, 1.5, d_sae)
    counts = np.minimum(rates / rates.sum() * n_tokens * l0, n_tokens // 2).astype(np.int64)
    with replace_index(layout) as index:
        if with_codes:
            with index.table("feature_codes", SAE) as out:
                for first in range(0, d_sae, 256):
                    out.write(_codes(generator, counts, first, min(first + 256, d_sae), n_tokens))
        with index.table("features", SAE) as out:
            out.write(_features(generator, counts, n_tokens))
    write_catalog(path)


def _constant(value: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), pa.array([value]))


def _codes(
    generator: np.random.Generator, counts: np.ndarray, first: int, end: int, n_tokens: int
) -> pa.Table:
    features = np.repeat(np.arange(first, end), counts[first:end])
    tokens = [np.sort(generator.choice(n_tokens, n, replace=False)) for n in counts[first:end]]
    n = len(features)
    return pa.table(
        {
            "run_id": _constant(RUN, n),
            "sae_id": _constant(SAE, n),
            "feature_id": features.astype(np.int32),
            "token_index": np.concatenate(tokens),
            "activation": generator.gamma(2, 1, n).astype(np.float32),
            **{c.name: pa.nulls(n, c.type) for c in GRADIENTS_OF_CODES},
        }
    )


def token_tables(n_tokens: int, first_context: int = 0) -> list[tuple[str, pa.Table]]:
    n_contexts = n_tokens // N_CTX
    contexts = np.arange(n_contexts) + first_context
    index = np.arange(n_contexts * N_CTX) + first_context * N_CTX
    n = len(index)
    texts = pa.table(
        {
            "run_id": _constant(RUN, n_contexts),
            "text_id": contexts,
            "category": [f"category {i % 8}" for i in contexts],
            "source": _constant("synthetic", n_contexts),
            "text": ["w" * N_CTX] * n_contexts,
            "sha256": _constant("0" * 64, n_contexts),
            "n_tokens": np.full(n_contexts, N_CTX, np.int32),
        }
    )
    context_rows = pa.table(
        {
            "run_id": _constant(RUN, n_contexts),
            "context_id": contexts,
            "text_id": contexts,
            "part": np.zeros(n_contexts, np.int32),
            "n_tokens": np.full(n_contexts, N_CTX, np.int32),
        }
    )
    pos = (index % N_CTX).astype(np.int32)
    tokens = pa.table(
        {
            "run_id": _constant(RUN, n),
            "token_index": index,
            "context_id": index // N_CTX,
            "pos": pos,
            "vocab_id": (index * 7919 % 50_257).astype(np.int32),
            "token": _constant("w", n),
            "token_bytes": pa.array([b"w"] * n, pa.binary()),
            "char_start": pos,
            "char_end": pos + 1,
            "is_special": pos == 0,
            "norm_ratio": np.ones(n, np.float32),
            "energy": (index % 97 / 10).astype(np.float32),
            "entropy": np.ones(n, np.float32),
            "confidence": np.full(n, 0.5, np.float32),
            "rank": np.zeros(n, np.int32),
            "log_frequency": np.zeros(n, np.float32),
        }
    )
    return [("texts", texts), ("contexts", context_rows), ("tokens", tokens)]


def _features(generator: np.random.Generator, counts: np.ndarray, n_tokens: int) -> pa.Table:
    n = len(counts)
    mean = generator.gamma(2, 1, n)
    density = counts / n_tokens
    return pa.table(
        {
            "run_id": _constant(RUN, n),
            "sae_id": _constant(SAE, n),
            "feature_id": np.arange(n, dtype=np.int32),
            "n_active": counts,
            "n_texts": np.minimum(counts, n_tokens // N_CTX),
            "density": density,
            "max_activation": (mean * 6).astype(np.float32),
            "min_activation": np.full(n, 0.01, np.float32),
            "mean_activation": mean,
            "std_activation": mean / 2,
            "quantiles": pa.array([[0.1, 0.2, 0.5, 1.0, 2.0, 3.0]] * n, pa.list_(pa.float32())),
            "histogram": pa.array([[1] * 24] * n, pa.list_(pa.int64())),
            "score": density * mean,
            "top_category": [f"category {i % 8}" for i in range(n)],
            "selectivity": generator.random(n),
            "n_active_unmasked": counts,
            "max_activation_unmasked": (mean * 6).astype(np.float32),
            "decoder_norm": np.ones(n, np.float32),
            "is_dense": density > 0.1,
        }
    )


def make_run(
    n_tokens: int,
    d_sae: int,
    l0: float,
    d_model: int = 768,
    n_shards: int = 1,
    efas: Sequence[str] = (),
) -> RunInfo:
    sae = SaeInfo(
        sae_id=SAE, source="synthetic", release=None, hook_name=SAE, layer=8, stream="residual",
        architecture="topk", d_in=d_model, d_sae=d_sae, weights_sha256="0" * 64,
        normalize_activations="none", centring=False, folded=False, neuronpedia_id=None,
        declared_l0=l0, l0=l0, fvu=0.1, explained_variance=0.9, n_dead=0, n_dense=0, gate="passed",
    )  # fmt: skip
    n_contexts = n_tokens // N_CTX
    return RunInfo(
        run_id=RUN, kind="corpus", created="2026-01-01T00:00:00+00:00", model="synthetic",
        model_class="none", model_revision=None, model_sha256="0" * 64, tokenizer_sha256="0" * 64,
        texts="synthetic", texts_sha256="0" * 64, n_texts=n_contexts, n_contexts=n_contexts,
        n_tokens=n_contexts * N_CTX, n_ctx=N_CTX, prepend_bos=True, n_layers=12, d_model=d_model,
        d_vocab=50_257, dtype="float32", loader="none", n_shards=n_shards, saes=[sae],
        efas=list(efas),
    )  # fmt: skip
