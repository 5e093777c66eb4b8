"""Features of a later SAE that read what a feature writes, told from weights alone."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.table import constants
from energylens.errors import UsageError
from energylens.ingest.on_request.reopen import reopen_saes
from energylens.lens.directions import read_directions, readers
from energylens.lens.saes import Sae, layer_of, writes_to_stream

READERS = 5
"""Readers kept for each feature."""
_ORDER = ("resid_pre", "attn_out", "mixer_out", "resid_mid", "mlp_out", "resid_post")
"""Places of a block on the residual stream, in the order in which a pass comes by them."""
_STREAM = re.compile(r"hook_resid_(pre|mid|post)$")


def reader_of(saes: Sequence[SaeInfo], written_at: str) -> SaeInfo | None:
    """The first SAE of the residual stream behind a hook that writes to it; of several at one
    place the narrowest."""
    if not writes_to_stream(written_at):
        return None
    later = [
        sae
        for sae in saes
        if _STREAM.search(sae.hook_name) and _place(sae.hook_name) > _place(written_at)
    ]
    return min(later, key=lambda sae: (_place(sae.hook_name), sae.d_sae, sae.sae_id), default=None)


def write_readers(writer: IndexWriter, run: RunInfo, info: SaeInfo, sae: Sae) -> None:
    """Write `feature_readers` of one SAE, where there is an SAE that reads what it writes, and its
    weights are here."""
    other = reader_of(run.saes, sae.target_hook)
    read = None if other is None else _read(run, other)
    if other is None or read is None or read.shape[1] != sae.W_dec.shape[1]:
        return
    with writer.table("feature_readers", info.sae_id) as out:
        for first, ids, cosines in readers(sae.W_dec, read, READERS):
            n, k = ids.shape
            out.write(
                pa.table(
                    {
                        **constants(n * k, run_id=run.run_id, sae_id=info.sae_id),
                        "feature_id": np.repeat(np.arange(first, first + n), k),
                        "rank": np.tile(np.arange(k), n),
                        **constants(n * k, other_sae_id=other.sae_id),
                        "other_feature_id": ids.reshape(-1).numpy(),
                        "cosine": cosines.reshape(-1).numpy(),
                    }
                )
            )


def _read(run: RunInfo, info: SaeInfo) -> torch.Tensor | None:
    try:
        (sae,) = reopen_saes(run, [info])
    except UsageError:  # told where its own tables are made
        return None
    return read_directions(sae)


def _place(hook_name: str) -> tuple[int, int]:
    """Where a hook of the residual stream stands in a pass."""
    part = hook_name.rpartition("hook_")[2]
    return layer_of(hook_name), _ORDER.index(part)
