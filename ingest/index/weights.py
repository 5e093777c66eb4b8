"""Logit weights, neighbours and map of an SAE's decoder directions, written to the index."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.table import constants
from energylens.ingest.index.readers import write_readers
from energylens.ingest.on_request.reopen import reopen_model, reopen_saes
from energylens.lens.directions import Extremes, logit_weights, neighbours
from energylens.lens.pieces import special_ids, vocabulary_labels
from energylens.stats.principal import principal_plane

LOGIT_TOKENS = 10
"""Promoted and suppressed tokens kept for each feature."""
NEIGHBOURS = 10
"""Neighbours kept for each feature."""
_UNUSED = re.compile(r"<(0x[0-9A-Fa-f]{2}|unused\d*|reserved.*|extra_id_\d+)>|\[unused\d*\]")


@dataclass(frozen=True)
class Decoder:
    """What the index needs of an SAE's decoder beyond its own tables."""

    norms: list[float]
    directions: np.ndarray
    """[d_sae, d_out]: what one unit of each activation adds to the output."""


class WeightReader:
    """Holds the model's read-out and loads a run's SAEs as they are needed."""

    def __init__(self, run: RunInfo) -> None:
        """Raises UsageError where the model is not to be had here, or is not the run's."""
        self._run = run
        self._model = reopen_model(run)
        self._labels, self._mask = _vocabulary(self._model.tokenizer, run.d_vocab)

    def write(self, writer: IndexWriter, info: SaeInfo) -> Decoder:
        """Write `feature_logits` and `logit_distributions` (where the decoder writes to the
        residual stream), `feature_neighbours`, `feature_map` and
        `feature_readers` of one SAE; its decoder.

        Raises:
            UsageError: the SAE is not to be had here, or is another one than the run used.
        """
        (sae,) = reopen_saes(self._run, [info])
        if sae.W_dec.shape[1] == self._run.d_model:
            with (
                writer.table("feature_logits", info.sae_id) as out,
                writer.table("logit_distributions", info.sae_id) as spread,
            ):
                for part in logit_weights(self._model.readout, sae.W_dec, LOGIT_TOKENS, self._mask):
                    out.write(self._logit_rows(info, part))
                    spread.write(self._spread_rows(info, part))
        with writer.table("feature_neighbours", info.sae_id) as out:
            for first, ids, cosines in neighbours(sae.W_dec, NEIGHBOURS):
                out.write(self._neighbour_rows(info, first, ids, cosines))
        with writer.table("feature_map", info.sae_id) as out:
            out.write(self._map_rows(info, sae.W_dec.numpy()))
        write_readers(writer, self._run, info, sae)
        return Decoder(sae.W_dec.norm(dim=1).tolist(), sae.write_directions.double().numpy())

    def directions(self, info: SaeInfo) -> np.ndarray:
        """[d_sae, d_out]: what one unit of each activation adds to the output.

        Raises:
            UsageError: the SAE is not to be had here, or is another one than the run used.
        """
        (sae,) = reopen_saes(self._run, [info])
        return sae.write_directions.numpy()

    def _logit_rows(self, info: SaeInfo, part: Extremes) -> pa.Table:
        n, k = part.top_ids.shape
        vocab_ids = torch.cat([part.top_ids, part.bottom_ids], dim=1).reshape(-1).numpy()
        return pa.table(
            {
                **constants(n * 2 * k, run_id=self._run.run_id, sae_id=info.sae_id),
                "feature_id": np.repeat(np.arange(part.first, part.first + n), 2 * k),
                "direction": np.tile(np.repeat(["top", "bottom"], k), n),
                "rank": np.tile(np.arange(k), 2 * n),
                "vocab_id": vocab_ids,
                "token": self._labels.take(pa.array(vocab_ids)),
                "logit_weight": torch.cat([part.top_values, part.bottom_values], dim=1)
                .reshape(-1)
                .numpy(),
            }
        )

    def _spread_rows(self, info: SaeInfo, part: Extremes) -> pa.Table:
        n, spread = len(part.top_ids), part.spread
        moments = {
            "mean": spread.mean, "std": spread.std, "skewness": spread.skewness,
            "kurtosis": spread.kurtosis,
        }  # fmt: skip
        return pa.table(
            {
                **constants(n, run_id=self._run.run_id, sae_id=info.sae_id),
                "feature_id": np.arange(part.first, part.first + n),
                "n_vocab": spread.counts.sum(1).numpy(),
                "lowest": part.bottom_values[:, 0].numpy(),
                "highest": part.top_values[:, 0].numpy(),
                **{name: pa.array(of.numpy(), from_pandas=True) for name, of in moments.items()},
                "histogram": list(spread.counts.numpy()),
            }
        )

    def _neighbour_rows(
        self, info: SaeInfo, first: int, ids: torch.Tensor, cosines: torch.Tensor
    ) -> pa.Table:
        n, k = ids.shape
        return pa.table(
            {
                **constants(n * k, run_id=self._run.run_id, sae_id=info.sae_id),
                "feature_id": np.repeat(np.arange(first, first + n), k),
                "rank": np.tile(np.arange(k), n),
                "neighbour_id": ids.reshape(-1).numpy(),
                "cosine": cosines.reshape(-1).numpy(),
            }
        )

    def _map_rows(self, info: SaeInfo, directions: np.ndarray) -> pa.Table:
        n, plane = len(directions), principal_plane(directions)
        names = {"run_id": self._run.run_id, "sae_id": info.sae_id}
        return pa.table(
            {
                **constants(n, **names),
                "feature_id": np.arange(n),
                "x": plane.places[:, 0],
                "y": plane.places[:, 1],
                **constants(n, method="pca"),
                "x_share": np.full(n, plane.shares[0]),
                "y_share": np.full(n, plane.shares[1]),
            }
        )


def _vocabulary(tokenizer: Any, d_vocab: int) -> tuple[pa.Array, torch.Tensor]:
    """How each row of the unembedding reads, and which rows stand for tokens that occur.

    Left out are rows beyond the tokenizer's vocabulary, special tokens, and entries that only
    hold a place (`<unused7>`) or a lone byte: they win logit tables and mean nothing.
    """
    tokens: list[str | None] = tokenizer.convert_ids_to_tokens(
        list(range(min(d_vocab, len(tokenizer))))
    )
    labels = vocabulary_labels(tokenizer)[: len(tokens)]
    special = set(special_ids(tokenizer))
    mask = [
        t is not None and i not in special and not _UNUSED.fullmatch(t)
        for i, t in enumerate(tokens)
    ]
    spare = d_vocab - len(tokens)
    return pa.array(labels + [""] * spare), torch.tensor(mask + [False] * spare)
