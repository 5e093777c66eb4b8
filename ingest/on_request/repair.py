"""Repair a model by gains of an SAE's features: learn them on half of a run's texts, judge them on
the other half, beside controls, and store what came of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from energylens.choices import one_of
from energylens.db.index_files import add_measured, check_measurable
from energylens.db.layout import StoreLayout
from energylens.db.schema import TABLES
from energylens.db.store import Store, open_store
from energylens.errors import UnknownNameError, UsageError
from energylens.ingest.on_request.contamination import trained_on
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.on_request.repair_split import CHOICES, GLOBAL, Split, Tried, Wish
from energylens.ingest.on_request.stored_contexts import stored_contexts
from energylens.ingest.progress import Progress
from energylens.lens.gains import Gains, about
from energylens.lens.repairing import Bench, Part
from energylens.queries.catalog import write_catalog
from energylens.stats.clusters import MIN_TEXTS, Interval
from energylens.stats.repairs import halvings, judged, together

NOTHING, EFAS = "nothing", "by efas"
TOGETHER = -1
"""The split that stands for all of them."""
_AVERAGED = ("n_learned", "n_judged", "n_tokens", "energy", "amount")
_PROMPT = "From my experience,"
"""What output scores are taken on, as their authors do."""
_CONTEXTS = """
SELECT c.context_id, c.text_id
FROM contexts AS c
JOIN texts AS t ON t.run_id = c.run_id AND t.text_id = c.text_id
WHERE c.run_id = $run AND ($category IS NULL OR t.category = $category)
ORDER BY c.context_id
"""
_CATEGORIES = """
SELECT DISTINCT category FROM texts WHERE run_id = $run AND category IS NOT NULL ORDER BY category
"""


@dataclass(frozen=True)
class Repaired:
    """What a repair gave."""

    rows: pl.DataFrame
    """Of the table repairs."""
    gains: Gains


def repair(
    store: Path,
    run_id: str,
    sae_id: str,
    wish: Wish,
    n_texts: int,
    progress: Progress,
    training_texts: str | None = None,
    category: str | None = None,
) -> Repaired:
    """Learn, judge, and store the rows of `repairs` and `repair_gains` of one SAE in place of those
    there are. At most `n_texts` texts are used, drawn at random; of one category, if it is given.

    Raises:
        UnknownNameError: the run has no such category.
        UsageError: there are too few texts, the model or SAE is not the run's, or nothing can be
            learned.
    """
    one_of("--by knows", wish.by, CHOICES)
    layout = StoreLayout(store).run(run_id)
    with open_store(store) as opened:
        texts = _texts(opened, run_id, category, n_texts, wish.seed)
        check_measurable(layout)
        reopened = reopen(store, run_id)
        contaminated = trained_on(opened, reopened.run, reopened.sae(sae_id), training_texts)
        work = _Work(opened, reopened, sae_id, texts, wish, progress)
    rows = work.rows(contaminated)
    gains, gain_rows = work.learned()
    with add_measured(layout, ("repairs", "repair_gains"), sae_id) as writer:
        for name, frame in (("repairs", rows), ("repair_gains", gain_rows)):
            with writer.table(name, sae_id) as out:
                out.write(frame.to_arrow().cast(TABLES[name].arrow))
    write_catalog(store)
    return Repaired(rows, gains)


def _texts(
    store: Store, run_id: str, category: str | None, n_texts: int, seed: int
) -> dict[int, int]:
    """The text of each context that is used."""
    asked = {"run": run_id, "category": category}
    rows = store.cursor().execute(_CONTEXTS, asked).fetchall()
    if category is not None and not rows:
        known = store.cursor().execute(_CATEGORIES, {"run": run_id}).fetchall()
        there = ", ".join(name for (name,) in known) or "none"
        raise UnknownNameError(
            f"the run '{run_id}' has no category '{category}'; there are: {there}"
        )
    texts = sorted({text for _, text in rows})
    drawn = np.random.default_rng((seed, len(texts))).permutation(len(texts))[:n_texts]
    chosen = {texts[i] for i in drawn}
    if len(chosen) < 2 * MIN_TEXTS:
        raise UsageError(
            f"a repair learns on one half of the texts and judges on the other, at least "
            f"{MIN_TEXTS} each; here are {len(chosen)} texts: ingest more"
        )
    return {context: text for context, text in rows if text in chosen}


class _Work:
    """One SAE of a run, and the texts it is repaired on."""

    def __init__(
        self,
        store: Store,
        reopened: Reopened,
        sae_id: str,
        texts: dict[int, int],
        wish: Wish,
        progress: Progress,
    ) -> None:
        self._reopened, self._wish, self._progress = reopened, wish, progress
        self._sae = reopened.sae(sae_id)
        self._contexts = stored_contexts(store, reopened.run, list(texts))
        self._text = np.unique([texts[one] for one in sorted(texts)], return_inverse=True)[1]
        self._n_texts = int(self._text.max()) + 1
        self._bench = Bench(
            reopened.model, self._sae, reopened.instruments.batch_tokens, self._tick
        )
        whole = self._part(np.ones(self._n_texts, dtype=bool))
        self._done, self._attributed = 0, whole.n_tokens
        self._sums = self._bench.text_sums(whole, self._n_texts)
        self._first: Split | None = None
        self._prompt = _prompt(reopened)

    def rows(self, contaminated: int | None) -> pl.DataFrame:
        """Rows of `repairs`."""
        wish, rows = self._wish, []
        halves = halvings(self._n_texts, wish.n_splits, wish.seed)
        found: dict[tuple[str, str], list[Interval]] = {}
        kept: dict[tuple[str, str], list[dict[str, object]]] = {}
        for number, learned in enumerate(halves):
            split = Split(
                self._bench, self._part, self._sums, learned, self._prompt, wish, wish.seed + number
            )
            self._first = self._first or split
            for tried, against, interval in self._judged(split, number):
                key = (tried.name, against)
                row = self._row(split, tried, against, int(learned.sum()), contaminated)
                found.setdefault(key, []).append(interval)
                kept.setdefault(key, []).append(row)
                rows.append({"split": number, **row, **_columns(interval)})
        for key, intervals in found.items():
            rows.append({"split": TOGETHER, **_mean(kept[key]), **_columns(together(intervals))})
        return self._frame("repairs", rows).sort("split", "condition", "against")

    def learned(self) -> tuple[Gains, pl.DataFrame]:
        """The gains of the first split."""
        assert self._first is not None, "rows come first"
        gains, known = self._first.gains, self._first.known
        features = np.flatnonzero(gains)
        rows = [
            {
                "feature_id": int(f),
                "gain": float(gains[f]),
                "attribution": float(known.attribution[f]),
                "t": float(known.t[f]),
                "n_active": int(known.n_active[f]),
            }
            for f in features
        ]
        run = self._reopened.run
        learned: dict[str, object] = {
            "run": run.run_id,
            "texts": run.texts,
            "n_texts": self._n_texts,
            "chosen_by": self._wish.by,
            "seed": self._wish.seed,
        }
        said = about(self._reopened.model, self._sae, **learned)
        made = Gains(tuple(features.tolist()), tuple(gains[features].tolist()), said)
        return made, self._frame("repair_gains", rows)

    def _judged(self, split: Split, number: int) -> "list[tuple[Tried, str, Interval]]":
        """Each condition against the model as it is and the best global gain; choices against what
        was asked for, and against EFAS."""
        wish = self._wish
        names, tried = wish.conditions, {}
        asked = f"by {wish.by}"
        for one in split.tried():
            tried[one.name] = one
            done = number * len(names) + names.index(one.name) + 1
            self._progress.step("repairs", done, wish.n_splits * len(names), "conditions")
        text = split.judge.text
        found = []
        for one in tried.values():
            found.append((one, NOTHING, judged(one.energies - split.clean, text)))
            others = [GLOBAL]
            if one.name.startswith("by "):
                others += dict.fromkeys([asked, EFAS])
            for other in others:
                if other == one.name:
                    continue
                difference = one.energies - tried[other].energies
                found.append((one, other, judged(difference, text)))
        return found

    def _row(
        self, split: Split, tried: Tried, against: str, n_learned: int, contaminated: int | None
    ) -> dict[str, object]:
        return {
            "condition": tried.name,
            "against": against,
            "chosen_by": self._wish.by,
            "n_features": int((split.gains != 0).sum()),
            "gain": self._wish.step,
            "n_learned": n_learned,
            "n_judged": len(np.unique(split.judge.text)),
            "n_tokens": split.judge.n_tokens,
            "energy": float(tried.energies.mean()),
            "amount": tried.amount,
            "contaminated": contaminated,
        }

    def _part(self, texts: np.ndarray) -> Part:
        """Contexts of the texts that a mask says."""
        chosen = np.flatnonzero(texts[self._text])
        return self._bench.part(
            [self._contexts[i] for i in chosen], [int(self._text[i]) for i in chosen]
        )

    def _tick(self, n: int) -> None:
        """The first tokens that are read are those of the attributions."""
        if self._done < self._attributed:
            self._done += n
            self._progress.step("attributions", self._done, self._attributed, "tokens")

    def _frame(self, name: str, rows: list[dict[str, object]]) -> pl.DataFrame:
        schema = TABLES[name].arrow
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
            pl.lit(self._reopened.run.run_id).alias("run_id"),
            pl.lit(self._sae.sae_id).alias("sae_id"),
        )
        empty = pl.from_arrow(schema.empty_table())
        assert isinstance(empty, pl.DataFrame), "a table has columns"
        return (
            frame.select(schema.names)
            .cast(empty.schema)
            .with_columns(pl.selectors.float().fill_nan(None))
        )


def _prompt(reopened: Reopened) -> torch.Tensor:
    """What output scores are taken on, as a context of the run begins."""
    model, corpus = reopened.model, reopened.corpus
    ids = model.tokenizer.encode(_PROMPT, add_special_tokens=False)[: corpus.room]
    return torch.tensor([model.bos_id, *ids] if reopened.run.prepend_bos else ids)


def _mean(rows: list[dict[str, object]]) -> dict[str, object]:
    """The row of all splits: means of their numbers."""
    found = dict(rows[0])
    for name in _AVERAGED:
        known = [row[name] for row in rows if isinstance(row[name], int | float)]
        found[name] = float(np.mean(np.array(known, dtype=np.float64))) if known else None
    return found


def _columns(interval: Interval) -> dict[str, float]:
    return {
        "change": interval.value,
        "change_low": interval.low,
        "change_high": interval.high,
    }
