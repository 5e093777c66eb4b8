"""Make a store of shards without a model: codes in token order, with gradients, as an ingest does.

Features fall off as one over their rank, as in trained SAEs. Memory holds a block of tokens.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.make_store import N_CTX, RUN, SAE, make_run, token_tables
from energylens.db.layout import StoreLayout
from energylens.db.provenance import write_run
from energylens.db.shards import write_shard
from energylens.db.table import GRADIENTS_OF_CODES, constants
from energylens.db.version import create_store

_BLOCK_CODES = 2_000_000
_TABLES = (
    "texts", "contexts", "tokens", "codes", "gradient_contexts", "gradient_positions",
    "gradient_sums",
)  # fmt: skip


def make_shards(path: Path, n_tokens: int, d_sae: int, l0: int, d_model: int, n_shards: int) -> int:
    """A run of one SAE with about `n_tokens * l0` codes and the lens gradient; how many codes."""
    create_store(path)
    layout = StoreLayout(path).run(RUN)
    layout.root.mkdir(parents=True)
    write_run(layout.run_json, make_run(n_tokens, d_sae, float(l0), d_model, n_shards, ["lens"]))
    n_contexts, made = n_tokens // N_CTX, 0
    for number in range(n_shards):
        first, end = (n_contexts * i // n_shards for i in (number, number + 1))
        generator = np.random.default_rng([0, number])
        with write_shard(layout, number, _TABLES) as writer:
            for name, rows in token_tables((end - first) * N_CTX, first):
                writer.write(name, rows)
            step = max(1, _BLOCK_CODES // (l0 * N_CTX))
            for block in range(first, end, step):
                codes = _codes(generator, block, min(block + step, end), d_sae, l0)
                made += codes.num_rows
                writer.write("codes", codes)
                writer.write(
                    "gradient_contexts",
                    _contexts(generator, block, min(block + step, end), d_model),
                )
            writer.write("gradient_positions", _positions(generator, number, d_model))
            writer.write("gradient_sums", _sums(generator, number, d_sae, end - first))
    return made


def _codes(generator: np.random.Generator, first: int, end: int, d_sae: int, l0: int) -> pa.Table:
    n = (end - first) * N_CTX
    drawn = generator.random((n, l0), dtype=np.float32)
    features = np.minimum((np.exp(drawn * np.log(1 + d_sae / 10)) - 1) * 10, d_sae - 1)
    features = np.sort(features.astype(np.int32), axis=1)
    is_new = np.diff(features, axis=1, prepend=-1) != 0
    row, _ = np.nonzero(is_new)
    m = len(row)
    gradients = {c.name: pa.nulls(m, c.type) for c in GRADIENTS_OF_CODES}
    gradients["g_lens"] = pa.array(generator.standard_normal(m, dtype=np.float32))
    return pa.table(
        {
            **constants(m, run_id=RUN, sae_id=SAE),
            "token_index": row + first * N_CTX,
            "feature_id": features[is_new],
            "activation": 0.1 + generator.standard_exponential(m, dtype=np.float32),
            **gradients,
        }
    )


def _contexts(generator: np.random.Generator, first: int, end: int, d_model: int) -> pa.Table:
    n = end - first
    return pa.table(
        {
            **constants(n, run_id=RUN, sae_id=SAE, variant="lens"),
            "context_id": np.arange(first, end),
            "n_tokens": np.full(n, N_CTX - 1, np.int32),
            "sum_gradient": _vectors(generator, n, d_model),
        }
    )


def _positions(generator: np.random.Generator, shard: int, d_model: int) -> pa.Table:
    n = 2 * (N_CTX - 1)
    return pa.table(
        {
            **constants(n, run_id=RUN, sae_id=SAE, variant="lens"),
            "shard": np.full(n, shard, np.int32),
            "half": np.repeat(np.arange(2, dtype=np.int16), N_CTX - 1),
            "pos": np.tile(np.arange(1, N_CTX, dtype=np.int32), 2),
            "n_tokens": np.full(n, 1, np.int32),
            "sum_gradient": _vectors(generator, n, d_model),
        }
    )


def _sums(generator: np.random.Generator, shard: int, d_sae: int, n_contexts: int) -> pa.Table:
    n_tokens = n_contexts * (N_CTX - 1) // 8
    n = 8 * d_sae
    names = constants(n, run_id=RUN, sae_id=SAE, variant="lens")
    sums = ("sum_g", "sum_pos_g", "sum_frequency_g", "sum_energy_g")
    return pa.table(
        {
            **names,
            "shard": np.full(n, shard, np.int32),
            "category": np.repeat([f"category {i}" for i in range(8)], d_sae),
            "feature_id": np.tile(np.arange(d_sae, dtype=np.int32), 8),
            "n_tokens": np.full(n, n_tokens, np.int32),
            **{name: generator.standard_normal(n) * n_tokens**0.5 for name in sums},
            "sum_gg": np.full(n, float(n_tokens)),
        }
    )


def _vectors(generator: np.random.Generator, n: int, width: int) -> pa.Array:
    flat = pa.array(generator.standard_normal(n * width))
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * width), flat)
