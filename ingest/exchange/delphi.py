"""The latent cache of delphi (EleutherAI), which its explainers and scorers read.

    {hook_name}/config.json                    where tokens came from, and the length of a context
    {hook_name}/{first}_{last}.safetensors     locations [n, 3], activations [n], and all tokens

A location is context, position and feature, the last counted from the first feature of the file;
both ends in a file's name belong to it. Activations are float16, and those of at most 1e-5 either
way are left out, as delphi leaves them out: what that loses is counted.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32, Int

import energylens
from energylens.db.folders import new_folder
from energylens.db.layout import file_name
from energylens.db.provenance import RunInfo
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.ingest.progress import Progress
from energylens.queries.names import find_sae

LEAST = 1e-5
"""Activations up to here are left out."""
_CODES = """
SELECT token_index, feature_id, activation FROM codes
WHERE run_id = $run AND sae_id = $sae AND feature_id BETWEEN $first AND $last
ORDER BY token_index, feature_id
"""
_TOKENS = "SELECT token_index, vocab_id FROM tokens WHERE run_id = $run ORDER BY token_index"


@dataclass(frozen=True)
class Written:
    """What is in the cache, and what it lost."""

    n_files: int
    n_activations: int
    n_left_out: int
    """Activations of at most `LEAST`."""
    n_infinite: int
    """Activations beyond float16, which are infinite there."""
    largest_error: float
    """Of float16, relative, among the others."""

    @property
    def lost(self) -> str:
        """What was lost, in words."""
        return (
            f"lost: {self.n_left_out:,} activations of at most {LEAST:g}; float16 is off by up to "
            f"{self.largest_error:.1e} of a value, and {self.n_infinite:,} are beyond it (infinite)"
        )


def export_delphi(
    store: Store, run: str, sae: str | None, folder: Path, n_splits: int, progress: Progress
) -> Written:
    """Write one SAE of a run to a new folder; None is the only one.

    Contexts shorter than the run's are filled with token 0, where no feature is active.

    Raises:
        UsageError: the folder is there already, or there are more files than features asked for.
        UnknownNameError: the run has no such SAE.
        StoreBusyError: another process makes the folder.
        StoreError: the disk cannot be written.
    """
    state = store.run(run)
    info, found = state.info, find_sae(state.info, sae)
    if state.n_complete < info.n_shards:
        raise UsageError(
            f"'{run}' is not finished, and a cache has all contexts; go on with ingest"
        )
    if not 1 <= n_splits <= found.d_sae:
        raise UsageError(
            f"{found.d_sae:,} features go into 1 to {found.d_sae:,} files, not {n_splits:,}"
        )
    bounds = np.linspace(0, found.d_sae, n_splits + 1).astype(np.int64)
    lost = []
    with new_folder(folder) as tree:
        place = tree / file_name(found.hook_name)
        place.mkdir()
        tokens = _tokens(store, info)
        for done, (first, end) in enumerate(pairwise(bounds.tolist())):
            progress.step("files", done, n_splits, "files")
            ends = (first, end - 1)
            lost.append(_write_split(store, info, found.sae_id, ends, tokens, place))
        progress.step("files", n_splits, n_splits, "files")
        config = _config(info, found.sae_id, n_splits)
        (place / "config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    return Written(
        n_splits,
        sum(one.n_activations for one in lost),
        sum(one.n_left_out for one in lost),
        sum(one.n_infinite for one in lost),
        max(one.largest_error for one in lost),
    )


def _write_split(
    store: Store, info: RunInfo, sae: str, ends: tuple[int, int],
    tokens: Int[np.ndarray, "contexts n_ctx"], place: Path,
) -> Written:  # fmt: skip
    from safetensors.numpy import save

    first, last = ends
    named = {"run": info.run_id, "sae": sae, "first": first, "last": last}
    codes = pl.DataFrame(store.cursor().sql(_CODES, params=named).to_arrow_table())
    kept = codes.filter(pl.col("activation").abs() > LEAST)
    index = kept["token_index"].to_numpy()
    feature = kept["feature_id"].to_numpy() - first
    where = np.stack([index // info.n_ctx, index % info.n_ctx, feature])
    small = where.size == 0 or where.max() < 2**16
    activation = kept["activation"].to_numpy()
    with np.errstate(over="ignore"):
        halved = activation.astype(np.float16)
    locations = np.ascontiguousarray(where.T.astype(np.uint16 if small else np.uint32))
    file = {"locations": locations, "activations": halved, "tokens": tokens}
    (place / f"{first}_{last}.safetensors").write_bytes(save(file))
    n_infinite = int(np.isinf(halved).sum())
    return Written(1, len(kept), len(codes) - len(kept), n_infinite, _error(activation, halved))


def _error(activation: Float32[np.ndarray, " n"], halved: np.ndarray) -> float:
    finite = np.isfinite(halved)
    if not finite.any():
        return 0.0
    off = np.abs(halved[finite].astype(np.float64) - activation[finite])
    return float((off / np.abs(activation[finite].astype(np.float64))).max())


def _tokens(store: Store, info: RunInfo) -> Int[np.ndarray, "contexts n_ctx"]:
    rows = store.cursor().sql(_TOKENS, params={"run": info.run_id}).fetchnumpy()
    index = np.asarray(rows["token_index"])
    tokens = np.zeros((info.n_contexts, info.n_ctx), dtype=np.int64)
    tokens[index // info.n_ctx, index % info.n_ctx] = np.asarray(rows["vocab_id"])
    return tokens


def _config(info: RunInfo, sae: str, n_splits: int) -> dict[str, object]:
    """As delphi writes it; `ctx_len` is what its reader looks for, `cache_ctx_len` what its writer
    calls the same."""
    return {
        "dataset_repo": info.texts,
        "dataset_split": "train",
        "dataset_name": "",
        "dataset_column": "text",
        "batch_size": 1,
        "cache_ctx_len": info.n_ctx,
        "ctx_len": info.n_ctx,
        "n_tokens": info.n_tokens,
        "n_splits": n_splits,
        "model_name": info.model,
        "made_by": f"energylens {energylens.__version__}",
        "run_id": info.run_id,
        "sae_id": sae,
    }
