"""What routing causes in a run's model: energies permuted and anchors taken away."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from energylens.db.index_files import add_measured, index_state
from energylens.db.layout import StoreLayout
from energylens.db.schema import TABLES
from energylens.db.store import Store, open_store
from energylens.errors import UsageError
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.on_request.stored_contexts import stored_contexts
from energylens.ingest.progress import Progress
from energylens.lens.batching import Batch, batch_of
from energylens.lens.models import LanguageModel
from energylens.lens.rerouting import (
    Ablated,
    Pass,
    Rerouted,
    ablate_anchor,
    anchor_routers,
    observe,
    permute_energy,
)
from energylens.lens.routers import Router
from energylens.queries.catalog import write_catalog
from energylens.stats.clusters import Interval, clustered_mean, jackknife

_BATCH = 8
_ALL = "all"
_TEXTS = "SELECT context_id, text_id FROM contexts WHERE run_id = $run ORDER BY context_id"


def measure_routing(
    store: Path, run_id: str, n_contexts: int, seed: int, progress: Progress
) -> dict[str, pl.DataFrame]:
    """Rows of `energy_permutations` and `anchor_ablations`, by name; they replace what the run's
    index held of them. The first is empty where the routers see no energy.

    Raises:
        UsageError: the model has no anchors, or the run's index is not fresh.
    """
    reopened = reopen(store, run_id)
    routers = anchor_routers(reopened.model, reopened.instruments.routers)
    layout = StoreLayout(store).run(run_id)
    if index_state(layout) != "fresh":
        raise UsageError(f"the index of '{run_id}' is not fresh; run: energylens index {store}")
    with open_store(store) as opened:
        batches, texts = _batches(opened, reopened, n_contexts, seed)
    work = _Work(reopened.model, routers, batches, texts, seed, progress)
    found = {"energy_permutations": work.permutations(), "anchor_ablations": work.ablations()}
    frames = {}
    with add_measured(layout, tuple(found)) as writer:
        for name, rows in found.items():
            schema = TABLES[name].arrow
            frame = pl.from_arrow(schema.empty_table())
            assert isinstance(frame, pl.DataFrame), "a table has columns"
            if rows:
                known = pl.DataFrame(rows).with_columns(pl.lit(run_id).alias("run_id"))
                frame = known.select(schema.names).with_columns(pl.selectors.float().fill_nan(None))
            with writer.table(name) as out:
                out.write(frame.to_arrow().cast(schema))
            frames[name] = frame
    write_catalog(store)
    return frames


def _batches(
    store: Store, reopened: Reopened, n_contexts: int, seed: int
) -> tuple[list[Batch], list[int]]:
    """Sampled contexts, alike in length together, and the text of each in the same order."""
    rows = store.cursor().execute(_TEXTS, {"run": reopened.run.run_id}).fetchall()
    text_of = dict(rows)
    known = list(text_of)
    picked = np.random.default_rng(seed).permutation(len(known))[:n_contexts]
    chosen = sorted(int(known[i]) for i in picked)
    found = zip(stored_contexts(store, reopened.run, chosen), chosen, strict=True)
    ordered = sorted(found, key=lambda one: len(one[0][0]))
    contexts = [context for context, _ in ordered]
    batches = [batch_of(contexts[i : i + _BATCH]) for i in range(0, len(contexts), _BATCH)]
    return batches, [text_of[number] for _, number in ordered]


class _Work:
    """One model and the contexts everything is measured on."""

    def __init__(
        self,
        model: LanguageModel,
        routers: tuple[Router, ...],
        batches: list[Batch],
        texts: list[int],
        seed: int,
        progress: Progress,
    ) -> None:
        self.model, self.routers, self.batches, self.seed = model, routers, batches, seed
        self.progress = progress
        self.plain = [observe(model, routers, batch) for batch in batches]
        self.text = _texts(batches, texts)

    def permutations(self) -> list[dict[str, object]]:
        """All routers at once, then one at a time; none where they see no energy."""
        if self.model.hf_model.config.energy == "none":
            return []
        seeing = [
            r for r in self.routers if r.layer >= self.model.hf_model.config.energy_first_layer
        ]
        rows = []
        for number, at in enumerate([seeing, *([r] for r in seeing)]):
            self.progress.step("permuting energies", number, len(seeing) + 1, "routers")
            found = [
                permute_energy(self.model, self.routers, batch, plain, at, self.seed + i)
                for i, (batch, plain) in enumerate(self._pairs())
            ]
            rows.append(self._rerouted(at, found, is_all=number == 0))
        self.progress.step("permuting energies", len(seeing) + 1, len(seeing) + 1, "routers")
        return rows

    def ablations(self) -> list[dict[str, object]]:
        """Every anchor of every router."""
        rows = []
        places = [
            (router, choice)
            for router in self.routers
            for choice in range(self.model.hf_model.config.n_anchors)
        ]
        for number, (router, choice) in enumerate(places):
            self.progress.step("ablating anchors", number, len(places), "anchors")
            found = [
                ablate_anchor(self.model, self.routers, batch, plain, router, choice)
                for batch, plain in self._pairs()
            ]
            rows.append(self._ablated(router, choice, found))
        self.progress.step("ablating anchors", len(places), len(places), "anchors")
        return rows

    def _pairs(self) -> Iterator[tuple[Batch, Pass]]:
        return zip(self.batches, self.plain, strict=True)

    def _rerouted(
        self, at: Sequence[Router], found: list[dict[str, Rerouted]], is_all: bool
    ) -> dict[str, object]:
        def mean(name: str) -> Interval:
            per_router = [
                np.concatenate([getattr(one[r.name], name).double().numpy() for one in found])
                for r in at
            ]
            return clustered_mean(np.mean(per_router, axis=0), self.text)

        return {
            "router": _ALL if is_all else at[0].name,
            "layer": None if is_all else at[0].layer,
            "n_tokens": len(self.text),
            "n_texts": len(np.unique(self.text)),
            **_columns("total_variation", mean("total_variation")),
            **_columns("moved", mean("moved")),
            **_columns("energy_change", mean("energy_change")),
        }

    def _ablated(self, router: Router, choice: int, found: list[Ablated]) -> dict[str, object]:
        used = np.concatenate([one.used.numpy() for one in found])
        change = np.concatenate([one.energy_change.double().numpy() for one in found])

        def difference(kept: np.ndarray) -> np.ndarray:
            own, others = change[kept & used], change[kept & ~used]
            return np.array([own.mean() - others.mean()] if len(own) and len(others) else [np.nan])

        return {
            "router": router.name,
            "layer": router.layer,
            "choice_id": choice,
            "n_own": int(used.sum()),
            "n_others": int((~used).sum()),
            **_columns("own", clustered_mean(change[used], self.text[used])),
            **_columns("others", clustered_mean(change[~used], self.text[~used])),
            **_columns("difference", jackknife(difference, self.text)[0]),
        }


def _texts(batches: list[Batch], texts: list[int]) -> np.ndarray:
    """The text of every token whose next one is known; `texts` are those of the contexts."""
    found, first = [], 0
    for batch in batches:
        known = (batch.mask & (batch.next_ids >= 0)).numpy()
        found.append(np.array(texts)[np.nonzero(known)[0] + first])
        first += len(known)
    return np.concatenate(found)


def _columns(name: str, interval: Interval) -> dict[str, object]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
