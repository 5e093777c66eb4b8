"""Top 50 partners of all 24,576 features, exact, over 1 million tokens at L0 60.

Features are drawn with a heavy tail, as real dictionaries have it. Writes
`benchmarks/results/coactivation.json`.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.make_store import RUN, SAE, make_run, token_tables
from benchmarks.queries import median_ms
from energylens.db.index_files import replace_index
from energylens.db.layout import StoreLayout
from energylens.db.provenance import write_run
from energylens.db.shards import write_shard
from energylens.db.store import open_store
from energylens.db.table import GRADIENTS_OF_CODES
from energylens.db.version import create_store
from energylens.ingest.estimate import peak_memory
from energylens.ingest.index.coactivation import write_coactivation

N_TOKENS, D_SAE, L0 = 1_000_000, 24_576, 60
BLOCK = 20_000


def write_codes(path: Path) -> int:
    """A store whose one shard holds the codes in token order; how many."""
    generator = np.random.default_rng(0)
    weights = 1.0 / np.arange(10, D_SAE + 10)
    edges = np.cumsum(weights / weights.sum())
    create_store(path)
    layout = StoreLayout(path).run(RUN)
    layout.root.mkdir(parents=True)
    write_run(layout.run_json, make_run(N_TOKENS, D_SAE, float(L0)))
    n_codes = 0
    with write_shard(layout, 0, ("texts", "contexts", "tokens", "codes")) as writer:
        for name, rows in token_tables(N_TOKENS):
            writer.write(name, rows)
        for first in range(0, N_TOKENS, BLOCK):
            drawn = np.searchsorted(edges, generator.random((BLOCK, L0))).astype(np.int64)
            key = np.unique((np.arange(first, first + BLOCK)[:, None] * D_SAE + drawn).ravel())
            n = len(key)
            n_codes += n
            rows = pa.table(
                {
                    "run_id": [RUN] * n,
                    "sae_id": [SAE] * n,
                    "token_index": key // D_SAE,
                    "feature_id": key % D_SAE,
                    "activation": generator.gamma(2.0, 1.0, n).astype(np.float32),
                    **{c.name: pa.nulls(n, c.type) for c in GRADIENTS_OF_CODES},
                }
            )
            writer.write("codes", rows)
    return n_codes


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "codes.lens"
        n_codes = write_codes(path)
        before = peak_memory()
        with open_store(path) as store, replace_index(StoreLayout(path).run(RUN)) as writer:
            run = store.runs[0].info
            con = store.cursor()
            tokens = con.execute(
                "SELECT token_index, context_id FROM tokens WHERE NOT is_masked ORDER BY 1"
            ).fetchnumpy()
            texts = np.unique(np.asarray(tokens["context_id"]), return_inverse=True)[1]
            began = time.perf_counter()
            write_coactivation(
                con, writer, run, run.saes[0], np.asarray(tokens["token_index"]), texts
            )
            seconds = time.perf_counter() - began
        with open_store(path) as store:
            con = store.cursor()

            def partners(number: int) -> None:
                con.sql(
                    "FROM coactivation WHERE run_id = $run AND sae_id = $sae AND unit = 'token' "
                    "AND feature_id = $feature ORDER BY rank",
                    params={"run": RUN, "sae": SAE, "feature": 3_000 + number},
                ).to_arrow_table()

            partners_ms = median_ms(partners)
    found = {
        "tokens": N_TOKENS,
        "features": D_SAE,
        "codes": n_codes,
        "seconds": seconds,
        "partners_of_one_ms": partners_ms,
        "peak_memory_gb": peak_memory() / 1e9,
        "peak_memory_before_gb": before / 1e9,
    }
    (Path(__file__).parent / "results/coactivation.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
