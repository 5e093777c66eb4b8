"""Steering only where a condition holds, beside steering everywhere, by a rule, and at random.

    python -m benchmarks.conditional_steering [--short]

Texts of one kind are steered towards another: the best specialist of the next category (in the
order of their names) is added after block 2, as strongly as it is ever active, at the tokens where
a condition holds that reads after block 1. Conditions learn on one half of the texts, and
everything is measured on the other. Writes `benchmarks/results/conditional_steering.parquet`, a row
for each text, and `docs/findings/steering.md` from it. The short form takes the bundled Llama alone
and generates nothing; it writes to the folder given by --out.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.steering_report import FINDING, RESULTS, report
from benchmarks.steering_rules import RULES, first_match
from energylens.db.store import Store, open_store
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.conditions import trigger_of
from energylens.ingest.on_request.intervene import edit_of
from energylens.ingest.on_request.probes import Tokens, codes_of, sampled_tokens
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.lens.batching import pad
from energylens.lens.conditions import Trigger
from energylens.lens.interventions import Change, Intervention, feature_change, noise
from energylens.lens.models import run_hooks
from energylens.lens.steering import generate
from energylens.protocol import EditRequest
from energylens.queries.names import find_sae
from energylens.when import When

MODELS = ("builtin:llama", "builtin:mesanet")
READ, EDITED = "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"
SHARES = (0.0, 0.25, 0.5)
"""Of a feature's maximum on the half that is learned on: thresholds that are tried."""
N_PROMOTED = 20
"""Tokens the edited direction promotes most; their probability is the aim of steering."""
N_SEEDS = 5
"""Draws of random tokens, as many as the probe's."""
BATCH = 16
MOST_TOKENS = 96
"""Of a text."""
N_PROMPT, N_NEW = 8, 20
_BEST = """
SELECT s.feature_id FROM specialists AS s
WHERE s.run_id = $run AND s.sae_id = $sae AND s.category = $category
ORDER BY s.score DESC, s.feature_id LIMIT 1
"""
_JUDGED = """
SELECT x.text_id, x.category, list(t.vocab_id ORDER BY t.pos) FILTER (t.pos < $most)
FROM tokens AS t
JOIN contexts AS c USING (run_id, context_id)
JOIN texts AS x USING (run_id, text_id)
WHERE t.run_id = $run AND c.part = 0 AND x.text_id IN (SELECT unnest($texts::BIGINT[]))
GROUP BY ALL
ORDER BY x.text_id
"""


@dataclass(frozen=True)
class JudgedText:
    """A text that nothing was learned on."""

    text_id: int
    category: str
    ids: list[int]
    beginnings: list[str]
    """The text up to each of its tokens."""


@dataclass(frozen=True)
class Aim:
    """What texts of a category are steered by."""

    category: str
    change: Change
    promoted: Tensor


Way = Callable[[Sequence[JudgedText]], Trigger | None]
"""Where texts of a batch are steered; None is everywhere."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument(
        "--out", type=Path, default=None, help="a folder, in place of the two files"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)  # models this small only wait for a second thread
    rows = pl.concat([measured(m, asked.short) for m in (MODELS[:1] if asked.short else MODELS)])
    out = asked.out or (Path(tempfile.mkdtemp()) if asked.short else None)
    results, finding = (
        (RESULTS, FINDING) if out is None else (out / RESULTS.name, out / FINDING.name)
    )
    results.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(results, compression="zstd")
    finding.write_text("\n".join(report(rows)) + "\n", encoding="utf-8")
    print(f"wrote {results} and {finding}")  # noqa: T201


def measured(model: str, is_short: bool) -> pl.DataFrame:
    """A row for each judged text, category, and way to steer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundled.lens"
        saes = tuple(f"{model}/{hook}" for hook in (READ, EDITED))
        config = IngestConfig(model=model, texts="builtin:categories", saes=saes)
        prepared = prepare(path, load(config))
        ingest(prepared, Part(), Progress())
        build_indexes(path, Progress())
        bench = Bench(reopen(path, prepared.run.run_id))
        rows = list(bench.rows())
        if not is_short:
            rows += bench.written()
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("differs").cast(pl.Float64), pl.lit(model).alias("model")
    )


class Bench:
    """One model's judged texts, conditions and edits."""

    def __init__(self, reopened: Reopened) -> None:
        self.reopened, self.model = reopened, reopened.model
        self.read, self.edited = reopened.sae(READ), reopened.sae(EDITED)
        with open_store(reopened.store) as store:
            self.tokens = sampled_tokens(store, reopened.run)
            info = find_sae(reopened.run, READ)
            self.codes = codes_of(store, reopened.run, info, self.tokens)
            self.texts = _judged(store, reopened, self.tokens)
        self.categories = sorted({text.category for text in self.texts})
        self.clean = self._clean()

    def rows(self) -> Iterator[dict[str, Any]]:
        """What steering does to every judged text, as texts of every category in turn."""
        for number, category in enumerate(self.categories):
            aim = self._aim(self.categories[(number + 1) % len(self.categories)])
            probe = self._trigger(When(READ, None, category, ">", 0.5))
            feature, threshold = self._best_feature(category)
            by_feature = self._trigger(When(READ, feature, None, ">", threshold))
            steered = partial(self._steered, category, aim)
            yield from steered("everywhere", 0, aim.change, lambda batch: None)
            yield from steered("feature", 0, aim.change, lambda batch, by=by_feature: by)
            by_probe = list(steered("probe", 0, aim.change, lambda batch, by=probe: by))
            yield from by_probe
            rate = sum(row["n_acted"] for row in by_probe) / sum(
                row["n_tokens"] for row in by_probe
            )
            yield from steered("rule", 0, aim.change, self._by_rule(RULES[category]))
            for seed in range(N_SEEDS):
                yield from steered("random tokens", seed, aim.change, self._at_random(rate, seed))
                turned = noise(aim.change, seed)
                yield from steered("noise by probe", seed, turned, lambda batch, by=probe: by)

    def written(self) -> Iterator[dict[str, Any]]:
        """Texts that go on from the beginnings of every third judged one, as its own category and
        as another."""
        for number, category in enumerate(self.categories):
            aim = self._aim(self.categories[(number + 1) % len(self.categories)])
            other = self.categories[number - 1]
            when = self._trigger(When(READ, None, category, ">", 0.5))
            for text in self.texts[::3]:
                if text.category not in (category, other) or len(text.ids) <= N_PROMPT:
                    continue
                prompt = torch.tensor(text.ids[:N_PROMPT])
                plain = self._go_on(prompt, text, None)
                for way, trigger in (("everywhere", None), ("probe", when)):
                    made = Intervention(self.edited, aim.change, self.model.bos_id, when=trigger)
                    new = self._go_on(prompt, text, made)
                    yield {
                        "kind": "written", "category": category, "way": way, "seed": 0,
                        "text_id": text.text_id, "is_own": text.category == category,
                        "n_tokens": len(new), "differs": float(new.tolist() != plain.tolist()),
                        "aim": _share(new, aim.promoted) - _share(plain, aim.promoted),
                    }  # fmt: skip

    def _go_on(self, prompt: Tensor, text: JudgedText, made: Intervention | None) -> Tensor:
        return generate(self.model, prompt, made, N_NEW, 1.0, text.text_id, lambda new: None)

    def _trigger(self, when: When) -> Trigger:
        found = trigger_of(self.reopened, self.edited, EditRequest(EDITED, (0,), when=when))
        assert found is not None, "there is a condition"
        return found

    def _best_feature(self, category: str) -> tuple[int, float]:
        """The feature and threshold with the best F1 of tokens, on the half that is learned on."""
        learned = self.codes[self.tokens.learns].toarray()
        own = self.tokens.category[self.tokens.learns] == category
        found = []
        for share in SHARES:
            thresholds = share * learned.max(axis=0)
            held = learned > thresholds
            both = held[own].sum(axis=0)
            f1 = 2 * both / np.maximum(held.sum(axis=0) + own.sum(), 1)
            best = int(f1.argmax())
            found.append((float(f1[best]), best, float(thresholds[best])))
        _, feature, threshold = max(found)
        return feature, threshold

    def _aim(self, category: str) -> Aim:
        with open_store(self.reopened.store) as store:
            names = {"run": self.reopened.run.run_id, "sae": EDITED, "category": category}
            feature = int(store.cursor().execute(_BEST, names).fetchall()[0][0])
        asked = EditRequest(EDITED, (feature,), "add", 1.0, "max")
        change = feature_change(self.edited, edit_of(self.reopened, asked))
        pushed = self.edited.write_directions[feature] @ self.model.readout.W_U
        return Aim(category, change, pushed.topk(N_PROMOTED).indices)

    def _clean(self) -> list[Tensor]:
        return [self._log_p(batch, None) for batch in self._batches()]

    def _batches(self) -> list[list[JudgedText]]:
        return [self.texts[i : i + BATCH] for i in range(0, len(self.texts), BATCH)]

    def _log_p(self, texts: Sequence[JudgedText], made: Intervention | None) -> Tensor:
        ids, mask = pad([text.ids for text in texts])
        hooks = [] if made is None else made.hooks(ids, mask)
        last = self.reopened.last_hook
        _, cache = run_hooks(self.model, ids, mask.long(), [last], edits=hooks)
        return self.model.readout.logits(cache[last]).log_softmax(-1)

    def _by_rule(self, rule: str) -> Way:
        def of(text: JudgedText) -> Tensor:
            return torch.arange(len(text.ids)) >= first_match(rule, text.beginnings)

        return self._given(of)

    def _at_random(self, rate: float, seed: int) -> Way:
        def of(text: JudgedText) -> Tensor:
            generator = torch.Generator().manual_seed(1000 * text.text_id + seed)
            return torch.rand(len(text.ids), generator=generator) < rate

        return self._given(of)

    def _given(self, of: Callable[[JudgedText], Tensor]) -> Way:
        """A way told from outside, not by what the SAE reads."""
        return lambda batch: Trigger(self.read, lambda codes: torch.cat([of(t) for t in batch]))

    def _steered(
        self, category: str, aim: Aim, way: str, seed: int, change: Change, when: Way
    ) -> Iterator[dict[str, Any]]:
        for batch, before in zip(self._batches(), self.clean, strict=True):
            masks: list[Tensor] = []
            made = Intervention(
                self.edited, change, self.model.bos_id, None, when(batch), masks.append
            )
            after = self._log_p(batch, made)
            for row, text in enumerate(batch):
                n = len(text.ids)
                p, q = before[row, 1:n], after[row, 1:n]  # what is predicted at BOS is left out
                rise = (p[:-1] - q[:-1]).gather(-1, torch.tensor(text.ids[2:])[:, None])
                yield {
                    "kind": "read", "category": category, "way": way, "seed": seed,
                    "text_id": text.text_id, "is_own": text.category == category,
                    "n_tokens": n - 1, "n_acted": int(masks[0][row].sum()),
                    "differs": None, "kl": float((p.exp() * (p - q)).sum(-1).clamp_min(0).mean()),
                    "energy": float(rise.mean()),
                    "aim": float(
                        (q[:, aim.promoted].exp() - p[:, aim.promoted].exp()).sum(-1).mean()
                    ),
                }  # fmt: skip


def _judged(store: Store, reopened: Reopened, tokens: Tokens) -> list[JudgedText]:
    """Beginnings of the texts that nothing was learned on, of three tokens or more."""
    judged = np.unique(tokens.text_id[~tokens.learns]).tolist()
    asked = {"run": reopened.run.run_id, "texts": judged, "most": MOST_TOKENS}
    rows = store.cursor().execute(_JUDGED, asked).fetchall()
    decode = reopened.model.tokenizer.decode
    return [
        JudgedText(text_id, category, ids, [decode(ids[1 : n + 1]) for n in range(len(ids))])
        for text_id, category, ids in sorted(rows, key=lambda row: len(row[2]))
        if len(ids) > 3
    ]


def _share(new: Tensor, promoted: Tensor) -> float:
    return float(torch.isin(new, promoted).float().mean()) if len(new) else 0.0


if __name__ == "__main__":
    main()
