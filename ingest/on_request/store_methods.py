"""What the worker writes to a run; each loads what it needs itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.additions import add_vectors
from energylens.ingest.on_request.another_gradient import add_variant
from energylens.ingest.on_request.causality import measure_effects
from energylens.ingest.progress import Progress
from energylens.protocol import (
    CausalityRequest,
    DoneResult,
    EfasRequest,
    IndexRequest,
    VectorsRequest,
)


def _add_efas(store: Path, run: str, asked: EfasRequest, progress: Progress) -> DoneResult:
    add_variant(store, run, asked.sae_id, asked.variant, progress)
    return DoneResult(f"EFAS of the gradient {asked.variant} is in the index")


def _measure(store: Path, run: str, asked: CausalityRequest, progress: Progress) -> DoneResult:
    found = measure_effects(
        store, run, asked.sae_id, asked.n_features, asked.n_contexts, asked.seed, progress
    )
    return DoneResult(f"{found.height} rows are in the table feature_effects")


def _keep(store: Path, run: str, asked: VectorsRequest, progress: Progress) -> DoneResult:
    n = add_vectors(store, run, asked.what, asked.hook_name, progress)
    return DoneResult(f"{n} shards were missing and have been made")


def _index(store: Path, run: str, asked: IndexRequest, progress: Progress) -> DoneResult:
    build_indexes(store, progress, run)
    return DoneResult(f"the index of {run} is made")


CHANGES: dict[str, Callable[[Path, str, Any, Progress], DoneResult]] = {
    "efas": _add_efas,
    "causality": _measure,
    "vectors": _keep,
    "index": _index,
}
