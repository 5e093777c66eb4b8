"""What every head of a run's model does over all its texts, and what its weights say."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from energylens.db.heads import HEAD_TABLES
from energylens.db.index_files import add_measured, check_measurable
from energylens.db.layout import StoreLayout
from energylens.db.schema import TABLES
from energylens.db.store import open_store
from energylens.errors import UsageError
from energylens.ingest.corpus import Context
from energylens.ingest.on_request.head_passes import count_tokens, head_batches, text_blocks
from energylens.ingest.on_request.labels import Labels
from energylens.ingest.on_request.reopen import reopen_texts
from energylens.ingest.plan import Loaded
from energylens.ingest.progress import Progress
from energylens.lens.circuits.patterns import read_patterns
from energylens.lens.circuits.products import bigrams, compositions, copying, matching
from energylens.lens.circuits.skip_trigrams import skip_trigrams
from energylens.lens.circuits.tally import HeadTally
from energylens.lens.circuits.weights import HeadWeights, read_heads
from energylens.lens.energy import NO_NEXT
from energylens.queries.catalog import write_catalog

_N_NEXT = 10
"""Next tokens listed for a token."""


def measure_heads(store: Path, run_id: str, top: int, progress: Progress) -> None:
    """Write the tables of heads of a run, in place of those there are; `top` pairs and
    skip-trigrams a head.

    Raises:
        UsageError: model or texts are not the run's, or the model has no heads that are read.
        StoreError: the store has no such run, or cannot be written.
    """
    with open_store(store) as opened:
        run = opened.run(run_id).info
    if run.base_run is not None:
        raise UsageError(
            f"'{run_id}' holds what was asked of the run '{run.base_run}': "
            "measure the heads of that"
        )
    layout = StoreLayout(store).run(run_id)
    check_measurable(layout)
    loaded = reopen_texts(store, run)
    model = loaded.instruments.model
    weights = read_heads(model)
    tally, pairs = _read_texts(loaded, weights, top, progress)
    labels = Labels(model)
    frames = {
        "heads": _frame("heads", _heads(weights, tally)),
        "head_pairs": _frame("head_pairs", _pairs(tally, run.n_ctx)),
        "skip_trigrams": _frame(
            "skip_trigrams", _skip_trigrams(weights, pairs, labels, top, progress)
        ),
        "bigrams": _bigrams(weights, pairs, labels),
        "head_compositions": _compositions(weights),
    }
    with add_measured(layout, tuple(table.name for table in HEAD_TABLES)) as writer:
        for name, frame in frames.items():
            schema = TABLES[name].arrow
            rows = frame.with_columns(pl.lit(run_id).alias("run_id")).select(schema.names)
            with writer.table(name) as out:
                out.write(rows.fill_nan(None).to_arrow().cast(schema))
    write_catalog(store)


def _frame(table: str, rows: Iterable[dict[str, object]]) -> pl.DataFrame:
    """Rows of a table; they may be none."""
    found, columns = list(rows), [c for c in TABLES[table].arrow.names if c != "run_id"]
    return pl.DataFrame(
        {name: pl.Series([row[name] for row in found], strict=False) for name in columns}
    )


@dataclass
class _Pairs:
    """How often tokens follow each other; a pair is first * n_ids + next."""

    n_ids: int
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def add(self, contexts: list[Context]) -> None:
        """Count the pairs of some contexts; a BOS that was prepended begins none."""
        first, following = (
            np.concatenate([np.array(ids, dtype=np.int64) for ids in rows])
            for rows in ([c.ids for c in contexts], [c.next_ids for c in contexts])
        )
        is_text = np.concatenate([[piece is not None for piece in c.pieces] for c in contexts])
        kept = is_text & (following != NO_NEXT)
        found = np.concatenate([self.keys, first[kept] * self.n_ids + following[kept]])
        weight = np.concatenate([self.counts, np.ones(int(kept.sum()), dtype=np.int64)])
        self.keys, place = np.unique(found, return_inverse=True)
        self.counts = np.bincount(place, weight, len(self.keys)).astype(np.int64)

    def count(self, first: np.ndarray, following: np.ndarray) -> np.ndarray:
        """How often each of some pairs stands in the texts."""
        keys = first * self.n_ids + following
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.counts[place], 0)

    def followed(self, tokens: np.ndarray) -> np.ndarray:
        """How often each of some tokens is followed by any."""
        return np.bincount(self.keys // self.n_ids, self.counts, self.n_ids)[tokens].astype(int)

    @property
    def tokens(self) -> torch.Tensor:
        """Every token that stands in a pair."""
        return torch.from_numpy(np.union1d(self.keys // self.n_ids, self.keys % self.n_ids))


def _read_texts(
    loaded: Loaded, weights: HeadWeights, top: int, progress: Progress
) -> tuple[HeadTally, _Pairs]:
    """The model over all texts.

    Raises:
        UsageError: no text has two tokens.
        ModelError: the attention to some text is no number.
    """
    model = loaded.instruments.model
    tally, pairs, done = HeadTally(weights, top), _Pairs(model.n_ids), 0
    for block in text_blocks(loaded):
        pairs.add(block)
        for contexts, batch in head_batches(loaded, weights.n_heads, block):
            tally.begin(batch, [context.context_id for context in contexts])
            read_patterns(model, weights, batch.ids, batch.mask, tally.layer)
            done += count_tokens(contexts)
            progress.step("heads", done, loaded.plan.n_tokens, "tokens")
    if not len(pairs.keys):
        raise UsageError("no text of the run has two tokens: there is nothing to look back at")
    return tally, pairs


def _places(weights: HeadWeights) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(weights.n_layers) for j in range(weights.n_heads))


def _heads(weights: HeadWeights, tally: HeadTally) -> Iterator[dict[str, object]]:
    found = tally.scores()
    by_weights = {"copying": copying(weights), "matching": matching(weights)}
    same = {
        "kind": weights.kind,
        "n_tokens": found.n_tokens,
        "n_duplicate": found.n_duplicate,
        "n_induction": found.n_induction,
        **{f"{name}_uniform": value for name, value in found.uniform.items()},
    }
    for name, one in by_weights.items():
        same |= {f"{name}_random_025": one.random_low, f"{name}_random_975": one.random_high}
    for layer, head in _places(weights):
        scores = {name: float(value[layer, head]) for name, value in found.scores.items()}
        scores |= {name: float(one.scores[layer, head]) for name, one in by_weights.items()}
        yield {"layer": layer, "head": head, **same, **scores}


def _pairs(tally: HeadTally, n_ctx: int) -> Iterator[dict[str, object]]:
    peaks = tally.peaks()
    for layer, head in _places(tally.weights):
        for rank in range(tally.k):
            strength, attention, context, destination, source = (
                getattr(peaks, name)[layer, head, rank].item()
                for name in ("strength", "attention", "context", "destination", "source")
            )
            if strength > 0:
                yield {
                    "layer": layer,
                    "head": head,
                    "rank": rank,
                    "token_index": context * n_ctx + destination,
                    "source_index": context * n_ctx + source,
                    "attention": attention,
                    "strength": strength,
                }


def _skip_trigrams(
    weights: HeadWeights, pairs: _Pairs, labels: Labels, top: int, progress: Progress
) -> Iterator[dict[str, object]]:
    tokens, n_heads = pairs.tokens, weights.n_layers * weights.n_heads
    for number, (layer, head) in enumerate(_places(weights)):
        progress.step("skip-trigrams", number, n_heads, "heads")
        for rank, one in enumerate(skip_trigrams(weights, layer, head, tokens, top)):
            yield {
                "layer": layer,
                "head": head,
                "rank": rank,
                "source_id": one.source,
                "source": labels[one.source],
                "destination_id": one.destination,
                "destination": labels[one.destination],
                "out_id": one.out,
                "out_token": labels[one.out],
                "score": one.score,
                "logit": one.logit,
                "strength": one.strength,
            }
    progress.step("skip-trigrams", n_heads, n_heads, "heads")


def _bigrams(weights: HeadWeights, pairs: _Pairs, labels: Labels) -> pl.DataFrame:
    logits, nexts = (part.numpy() for part in bigrams(weights, pairs.tokens, _N_NEXT))
    n, k = nexts.shape
    tokens, nexts = np.repeat(pairs.tokens.numpy(), k), nexts.flatten()
    return pl.DataFrame(
        {
            "vocab_id": tokens,
            "rank": np.tile(np.arange(k), n),
            "token": [labels[token] for token in tokens.tolist()],
            "next_id": nexts,
            "next_token": [labels[token] for token in nexts.tolist()],
            "logit": logits.flatten(),
            "n_pair": pairs.count(tokens, nexts),
            "n_token": pairs.followed(tokens),
        }
    )


def _compositions(weights: HeadWeights) -> pl.DataFrame:
    frames, names = [], ("layer", "head", "to_layer", "to_head")
    for one in compositions(weights):
        places = (~one.scores.isnan()).nonzero(as_tuple=True)
        columns = {name: at.numpy() for name, at in zip(names, places, strict=True)}
        above = (one.scores[places] - one.random).numpy()
        frame = pl.DataFrame({**columns, "composition": above})
        frames.append(
            frame.with_columns(pl.lit(one.how).alias("how"), pl.lit(one.random).alias("random"))
        )
    return pl.concat(frames).sort("how", *names)
