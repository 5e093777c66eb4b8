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
        token_index = self._token_index(contexts)
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
        for hook, values in measured.activations.items():
            yield from self.activations(hook, values, contexts)
        for hook in instruments.hooks if instruments.keep_gradients else ():
            yield from self.gradients(hook, measured.gradients["lens", hook], contexts)
        for router in instruments.routers:
            yield from self._routing(router, measured, token_index)

    def log_frequency(self, contexts: Sequence[Context]) -> np.ndarray:
        """ln of the corpus count of each token's vocabulary id; NaN for special tokens."""
        ids = np.concatenate([np.array(c.ids, dtype=np.int64) for c in contexts])
        special = self._is_special(contexts)
        return np.where(special, np.nan, np.log(np.maximum(self.vocab_counts[ids], 1)))

    def activations(
        self, hook: str, values: np.ndarray, contexts: Sequence[Context]
    ) -> Iterator[tuple[str, pa.Table]]:
        """Rows of what is kept where activations are."""
        token_index = self._token_index(contexts)
        yield "activations", self._vectors(hook, "activation", values, token_index)
        norms = np.linalg.norm(values, axis=1)
        named = constants(len(values), run_id=self.run_id, hook_name=hook)
        yield (
            "activation_norms",
            pa.table({**named, "token_index": token_index, "norm": _nan_is_null(norms)}),
        )
        is_text = ~self._is_special(contexts) & (token_index % self.n_ctx > 0)
        summed = values[is_text & np.isfinite(norms)].astype(np.float64)
        yield (
            "activation_sums",
            pa.table(
                {
                    **constants(1, run_id=self.run_id, hook_name=hook),
                    "token_index": token_index[:1],
                    "n_tokens": [len(summed)],
                    "sum_activation": [summed.sum(axis=0)],
                    "sum_square": [np.square(summed).sum(axis=0)],
                }
            ),
        )

    def gradients(
        self, hook: str, values: np.ndarray, contexts: Sequence[Context]
    ) -> Iterator[tuple[str, pa.Table]]:
        """Rows of kept lens gradients."""
        token_index = self._token_index(contexts)
        yield "energy_gradients", self._vectors(hook, "gradient", values, token_index)

    def _token_index(self, contexts: Sequence[Context]) -> np.ndarray:
        return np.concatenate([c.context_id * self.n_ctx + np.arange(len(c.ids)) for c in contexts])

    def _is_special(self, contexts: Sequence[Context]) -> np.ndarray:
        ids = np.concatenate([np.array(c.ids, dtype=np.int64) for c in contexts])
        no_piece = np.array([piece is None for c in contexts for piece in c.pieces])
        return np.isin(ids, special_ids(self.tokenizer)) | no_piece

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

    def _vectors(
        self, hook: str, column: str, values: np.ndarray, token_index: np.ndarray
    ) -> pa.Table:
        """Vectors at a hook; NULL for one of NaN."""
        n, width = values.shape
        is_known = ~np.isnan(values[:, 0])
        offsets = np.cumsum([0, *np.where(is_known, width, 0)], dtype=np.int32)
        lists = pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(values[is_known].reshape(-1)), mask=pa.array(~is_known)
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
