"""What EFAS needs of a shard: g at every code, and sums of gradients over every valid token.

One pass, O(non-zeros) beside sums that do not depend on the features; the index makes the rest.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from scipy import sparse

from energylens.db.schema import SINK_NORM_RATIO
from energylens.db.table import constants
from energylens.ingest.corpus import Context
from energylens.ingest.measure import Instruments, Measured
from energylens.lens.energy import NO_NEXT
from energylens.lens.gradients import Variant
from energylens.lens.saes import Sae, writes_to_stream

_GATHER = 1 << 18
"""Numbers gathered at once when directions meet gradients: few enough for the cache."""
_N_COVARIATES = 4
"""One, position, log frequency, energy."""


@dataclass
class _Moments:
    """Sums over the valid tokens of one category."""

    n: int
    xa: np.ndarray
    """[4, d]: covariates times gradient."""
    aa: np.ndarray
    """[d, d]."""


class GradientTally:
    """Goes over the blocks of one shard; its rows are written when the shard ends."""

    def __init__(self, instruments: Instruments, run_id: str, shard: int, n_ctx: int) -> None:
        self._saes = [s for s in instruments.saes if writes_to_stream(s.target_hook)]
        self._variants = instruments.efas
        self._run_id, self._shard, self._n_ctx = run_id, shard, n_ctx
        self._moments: dict[tuple[str, Variant], dict[str | None, _Moments]] = defaultdict(dict)
        self._positions: dict[tuple[str, Variant], np.ndarray] = {}
        self._counts = np.zeros((2, n_ctx), dtype=np.int64)

    def block(self, measured: Measured, log_frequency: np.ndarray) -> Iterator[pa.Table]:
        """Add a block, `log_frequency` that of its tokens; its rows of `gradient_contexts`."""
        tokens = _Tokens.of(measured, log_frequency)
        np.add.at(self._counts, (tokens.half[tokens.valid], tokens.pos[tokens.valid]), 1)
        for sae in self._saes:
            for variant in self._variants:
                gradient = self._gradient(measured, sae, variant)
                self._add(sae.sae_id, variant, gradient, tokens)
                yield self._context_rows(sae.sae_id, variant, gradient, tokens)

    def codes(self, measured: Measured) -> dict[str, dict[Variant, np.ndarray]]:
        """g at every code of a block, float32, by SAE and variant; NaN without a next token."""
        found: dict[str, dict[Variant, np.ndarray]] = {}
        for sae in self._saes:
            codes = measured.codes[sae.sae_id]
            found[sae.sae_id] = {
                variant: _at_codes(
                    sae, self._gradient(measured, sae, variant), codes.token, codes.feature_id
                )
                for variant in self._variants
            }
        return found

    def rows(self) -> Iterator[tuple[str, pa.Table]]:
        """Rows of `gradient_positions` and `gradient_sums` of the whole shard, in key order."""
        keys = sorted(self._positions)
        for sae_id, variant in keys:
            yield "gradient_positions", self._position_rows(sae_id, variant)
        directions = {s.sae_id: s.write_directions.double().numpy() for s in self._saes}
        for sae_id, variant in keys:
            by_category = self._moments[sae_id, variant]
            for category in sorted(by_category, key=lambda c: (c is None, c or "")):
                yield (
                    "gradient_sums",
                    self._sum_rows(
                        sae_id, variant, category, by_category[category], directions[sae_id]
                    ),
                )

    def _gradient(self, measured: Measured, sae: Sae, variant: Variant) -> np.ndarray:
        gradient = measured.gradients[variant, sae.target_hook]
        scale = measured.write_scales.get(sae.sae_id)
        return gradient if scale is None else gradient * scale[:, None]

    def _add(self, sae_id: str, variant: Variant, gradient: np.ndarray, tokens: "_Tokens") -> None:
        d = gradient.shape[1]
        key = (sae_id, variant)
        sums = self._positions.setdefault(key, np.zeros((2, self._n_ctx, d)))
        valid = gradient[tokens.valid].astype(np.float64)
        sums += (tokens.by_position(self._n_ctx) @ valid).reshape(sums.shape)
        for category, chosen in tokens.by_category.items():
            a, x = gradient[chosen].astype(np.float64), tokens.x[chosen]
            moments = self._moments[key].setdefault(
                category, _Moments(0, np.zeros((_N_COVARIATES, d)), np.zeros((d, d)))
            )
            moments.n += len(a)
            moments.xa += x.T @ a
            moments.aa += a.T @ a

    def _context_rows(
        self, sae_id: str, variant: Variant, gradient: np.ndarray, tokens: "_Tokens"
    ) -> pa.Table:
        masked = np.where(tokens.valid[:, None], gradient, 0.0).astype(np.float64)
        sums = np.add.reduceat(masked, tokens.starts)
        n = len(sums)
        return pa.table(
            {
                **self._names(sae_id, variant, n),
                "context_id": tokens.context_ids,
                "n_tokens": np.add.reduceat(tokens.valid.astype(np.int32), tokens.starts),
                "sum_gradient": _lists(sums),
            }
        )

    def _position_rows(self, sae_id: str, variant: Variant) -> pa.Table:
        half, pos = np.nonzero(self._counts)
        return pa.table(
            {
                **self._names(sae_id, variant, len(pos)),
                "shard": np.full(len(pos), self._shard),
                "half": half,
                "pos": pos,
                "n_tokens": self._counts[half, pos],
                "sum_gradient": _lists(self._positions[sae_id, variant][half, pos]),
            }
        )

    def _sum_rows(
        self,
        sae_id: str,
        variant: Variant,
        category: str | None,
        moments: _Moments,
        directions: np.ndarray,
    ) -> pa.Table:
        n = len(directions)
        gx = -(directions @ moments.xa.T)
        return pa.table(
            {
                **self._names(sae_id, variant, n),
                "shard": np.full(n, self._shard),
                "category": pa.array([category] * n, pa.string()),
                "feature_id": np.arange(n),
                "n_tokens": np.full(n, moments.n),
                "sum_g": gx[:, 0],
                "sum_gg": np.einsum("fd,fd->f", directions @ moments.aa, directions),
                "sum_pos_g": gx[:, 1],
                "sum_frequency_g": gx[:, 2],
                "sum_energy_g": gx[:, 3],
            }
        )

    def _names(self, sae_id: str, variant: str, n: int) -> dict[str, pa.DictionaryArray]:
        return constants(n, run_id=self._run_id, sae_id=sae_id, variant=variant)


@dataclass(frozen=True)
class _Tokens:
    """Where the tokens of a block stand, and which of them are valid."""

    context_ids: np.ndarray
    starts: np.ndarray
    pos: np.ndarray
    half: np.ndarray
    valid: np.ndarray
    x: np.ndarray
    by_category: dict[str | None, np.ndarray]
    """Rows of the valid tokens of each category."""

    def by_position(self, n_ctx: int) -> sparse.csr_matrix:
        """Sums the rows of valid tokens by (half, pos)."""
        rows = (self.half * n_ctx + self.pos)[self.valid]
        n = len(rows)
        return sparse.csr_matrix((np.ones(n), (rows, np.arange(n))), shape=(2 * n_ctx, n))

    @staticmethod
    def of(measured: Measured, log_frequency: np.ndarray) -> "_Tokens":
        contexts = measured.contexts
        lengths = np.array([len(c.ids) for c in contexts])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        context_ids = np.array([c.context_id for c in contexts])
        pos = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        valid = valid_tokens(contexts, measured.norm_ratio, np.isnan(log_frequency))
        energy = measured.output.energy.numpy() if measured.output else np.zeros(len(pos))
        x = np.stack(
            [np.ones(len(pos)), pos, np.nan_to_num(log_frequency), np.nan_to_num(energy)], axis=1
        )
        of_token = np.repeat(np.arange(len(contexts)), lengths)
        by_category: dict[str | None, np.ndarray] = {}
        categories = [c.text.text.category for c in contexts]
        for category in dict.fromkeys(categories):
            inside = np.array([c == category for c in categories])
            by_category[category] = np.flatnonzero(inside[of_token] & valid)
        half = np.repeat(context_ids % 2, lengths)
        return _Tokens(context_ids, starts, pos, half, valid, x, by_category)


def valid_tokens(
    contexts: Sequence[Context], norm_ratio: np.ndarray, is_special: np.ndarray
) -> np.ndarray:
    """Tokens that are not masked (special, first in their context, sinks) and have a next token."""
    has_next = np.concatenate([np.array(c.next_ids) != NO_NEXT for c in contexts])
    first = np.concatenate([np.arange(len(c.ids)) == 0 for c in contexts])
    return has_next & ~first & ~is_special & ~(norm_ratio > SINK_NORM_RATIO)


def _at_codes(
    sae: Sae, gradient: np.ndarray, token: np.ndarray, feature_id: np.ndarray
) -> np.ndarray:
    a, directions = torch.from_numpy(gradient), sae.write_directions
    tokens, features = torch.from_numpy(token), torch.from_numpy(feature_id)
    step = max(1, _GATHER // a.shape[1])
    parts = [
        torch.linalg.vecdot(
            a.index_select(0, tokens[i : i + step]),
            directions.index_select(0, features[i : i + step]),
        )
        for i in range(0, len(token), step)
    ]
    return -torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)


def _lists(values: np.ndarray) -> pa.ListArray:
    n, width = values.shape
    offsets = pa.array(np.arange(0, (n + 1) * width, width, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
