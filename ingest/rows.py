"""Arrays of a block as Arrow rows of the store's tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from energylens.db.table import constants
from energylens.ingest.corpus import Context, TokenizedText
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.measure import Instruments, Measured
from energylens.lens.energy import Energies
from energylens.lens.gradients import VARIANTS
from energylens.lens.pieces import special_ids
from energylens.lens.routers import Router


@dataclass(frozen=True)
class RowMaker:
    """What is needed to name the rows of one run."""

    run_id: str
    n_ctx: int
    tokenizer: Any
    vocab_counts: np.ndarray
    """How often each vocabulary id occurs in the corpus."""

    def texts(self, texts: Sequence[TokenizedText]) -> pa.Table:
        """Rows of `texts`."""
        return pa.table(
            {
                **constants(len(texts), run_id=self.run_id),
                "text_id": [t.text_id for t in texts],
                "category": pa.array([t.text.category for t in texts], pa.string()),
                "source": pa.array([t.text.source for t in texts], pa.string()),
                "text": [t.text.text for t in texts],
                "sha256": [t.sha256 for t in texts],
                "n_tokens": [len(t.ids) for t in texts],
            }
        )

    def block(
        self, measured: Measured, instruments: Instruments, tally: GradientTally
    ) -> Iterator[tuple[str, pa.Table]]:
        """Rows of every table the block has rows of; its gradients go into the shard's tally."""
        contexts = measured.contexts
        token_index = np.concatenate(
            [c.context_id * self.n_ctx + np.arange(len(c.ids)) for c in contexts]
        )
        yield "contexts", self._contexts(contexts)
        yield "tokens", self._tokens(measured, token_index)
        for rows in tally.block(measured, self.log_frequency(contexts)):
            yield "gradient_contexts", rows
        gradients = tally.codes(measured)
        for sae_id, codes in measured.codes.items():
            n = len(codes.token)
            g = gradients.get(sae_id, {})
            yield (
                "codes",
                pa.table(
                    {
                        **constants(n, run_id=self.run_id),
                        **constants(n, sae_id=sae_id),
                        "token_index": token_index[codes.token],
                        "feature_id": codes.feature_id.astype(np.int32),
                        "activation": codes.activation,
                        **{
                            f"g_{variant}": _nan_is_null(g[variant])
                            if variant in g
                            else pa.nulls(n, pa.float32())
                            for variant in VARIANTS
                        },
                    }
                ),
            )
        if measured.lens:
            yield "energies", self._energies(measured.lens, token_index)
        kept = instruments.hooks if instruments.keep_gradients else ()
        for table, column, vectors in (
            ("activations", "activation", measured.activations),
            ("energy_gradients", "gradient", {h: measured.gradients["lens", h] for h in kept}),
        ):
            for hook, values in vectors.items():
                yield table, self.vectors(hook, column, values, token_index)
        for router in instruments.routers:
            yield from self._routing(router, measured, token_index)

    def log_frequency(self, contexts: Sequence[Context]) -> np.ndarray:
        """ln of the corpus count of each token's vocabulary id; NaN for special tokens."""
        ids = np.concatenate([np.array(c.ids, dtype=np.int64) for c in contexts])
        no_piece = np.array([piece is None for c in contexts for piece in c.pieces])
        special = np.isin(ids, special_ids(self.tokenizer)) | no_piece
        return np.where(special, np.nan, np.log(np.maximum(self.vocab_counts[ids], 1)))

    def _contexts(self, contexts: Sequence[Context]) -> pa.Table:
        return pa.table(
            {
                **constants(len(contexts), run_id=self.run_id),
                "context_id": [c.context_id for c in contexts],
                "text_id": [c.text.text_id for c in contexts],
                "part": [c.part for c in contexts],
                "n_tokens": [len(c.ids) for c in contexts],
            }
        )

    def _tokens(self, measured: Measured, token_index: np.ndarray) -> pa.Table:
        contexts = measured.contexts
        ids = np.concatenate([np.array(c.ids, dtype=np.int32) for c in contexts])
        pieces = [piece for c in contexts for piece in c.pieces]
        names = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        log_frequency = self.log_frequency(contexts)
        n = len(ids)
        return pa.table(
            {
                **constants(n, run_id=self.run_id),
                "token_index": token_index,
                "context_id": np.repeat(
                    [c.context_id for c in contexts], [len(c.ids) for c in contexts]
                ),
                "pos": token_index % self.n_ctx,
                "vocab_id": ids,
                "token": [
                    name if piece is None else piece.label
                    for piece, name in zip(pieces, names, strict=True)
                ],
                "token_bytes": [b"" if piece is None else piece.data for piece in pieces],
                "char_start": pa.array(
                    [None if p is None else p.char_start for p in pieces], pa.int32()
                ),
                "char_end": pa.array(
                    [None if p is None else p.char_end for p in pieces], pa.int32()
                ),
                "is_special": np.isnan(log_frequency),
                "norm_ratio": _nan_is_null(measured.norm_ratio),
                **_output_columns(measured.output, n),
                "log_frequency": _nan_is_null(log_frequency),
            }
        )

    def _energies(self, lens: dict[int, Energies], token_index: np.ndarray) -> pa.Table:
        layers = np.array(list(lens), dtype=np.int16)
        readings = list(lens.values())

        def by_token(name: str) -> np.ndarray:
            return np.stack([getattr(r, name).numpy() for r in readings], axis=1).reshape(-1)

        rank = by_token("rank").astype(np.int32)
        return pa.table(
            {
                **constants(len(rank), run_id=self.run_id),
                "token_index": np.repeat(token_index, len(layers)),
                "layer": np.tile(layers, len(token_index)),
                "energy": _nan_is_null(by_token("energy")),
                "entropy": by_token("entropy"),
                "rank": pa.array(rank, mask=rank < 0),
                "top_vocab_id": by_token("top_vocab_id").astype(np.int32),
            }
        )

    def vectors(
        self, hook: str, column: str, values: np.ndarray, token_index: np.ndarray
    ) -> pa.Table:
        """Rows of `activations` or `energy_gradients`; NULL for a vector of NaN."""
        n, width = values.shape
        offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
        lists = pa.ListArray.from_arrays(
            pa.array(offsets),
            pa.array(values.reshape(-1)),
            mask=pa.array(np.isnan(values[:, 0])),
        )
        return pa.table(
            {
                **constants(n, run_id=self.run_id),
                **constants(n, hook_name=hook),
                "token_index": token_index,
                column: lists,
            }
        )

    def _routing(
        self, router: Router, measured: Measured, token_index: np.ndarray
    ) -> Iterator[tuple[str, pa.Table]]:
        found = measured.routes[router.name]
        n, k = found.choice_ids.shape
        yield (
            "routing",
            pa.table(
                {
                    **constants(n * k, run_id=self.run_id),
                    **constants(n * k, router=router.name),
                    "layer": np.full(n * k, router.layer, dtype=np.int16),
                    "token_index": np.repeat(token_index, k),
                    "rank": np.tile(np.arange(k, dtype=np.int16), n),
                    "choice_id": found.choice_ids.numpy().reshape(-1).astype(np.int16),
                    "weight": found.weights.numpy().reshape(-1),
                }
            ),
        )
        energy_in = measured.lens.get(router.layer - 1)
        energy_out = measured.lens.get(router.layer)
        yield (
            "routing_tokens",
            pa.table(
                {
                    **constants(n, run_id=self.run_id),
                    **constants(n, router=router.name),
                    "layer": np.full(n, router.layer, dtype=np.int16),
                    "token_index": token_index,
                    "logits": pa.array(list(found.logits.numpy()), pa.list_(pa.float32())),
                    "entropy": found.entropy.numpy(),
                    "margin": found.margin.numpy(),
                    "seen_energy": _or_null(found.seen_energy, n, pa.float32()),
                    "energy_in": _energy_or_null(energy_in, n),
                    "energy_out": _energy_or_null(energy_out, n),
                    "write_norm": _or_null(found.write_norm, n, pa.float32()),
                    "solver_steps": _or_null(found.solver_steps, n, pa.int16()),
                }
            ),
        )


def _output_columns(output: Energies | None, n: int) -> dict[str, pa.Array]:
    if output is None:
        floats = {name: pa.nulls(n, pa.float32()) for name in ("energy", "entropy", "confidence")}
        return {**floats, "rank": pa.nulls(n, pa.int32())}
    rank = output.rank.numpy().astype(np.int32)
    return {
        "energy": _nan_is_null(output.energy.numpy()),
        "entropy": pa.array(output.entropy.numpy()),
        "confidence": pa.array(output.confidence.numpy()),
        "rank": pa.array(rank, mask=rank < 0),
    }


def _or_null(values: Tensor | None, n: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(n, kind) if values is None else pa.array(values.numpy()).cast(kind)


def _energy_or_null(energies: Energies | None, n: int) -> pa.Array:
    if energies is None:
        return pa.nulls(n, pa.float32())
    return _nan_is_null(energies.energy.numpy())


def _nan_is_null(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
