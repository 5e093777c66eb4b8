"""Whether a model whose tokens stop early still knows how a text goes on.

    python -m benchmarks.exit_choices OUT MODEL TEXTS [--depths 20 24 28] [--share 0.5]

For each odd text that is long enough: its own continuation against those of three other texts of
its category, each after the same beginning; the one of least mean energy is chosen. Lens and heads
are those of benchmarks.exits, from the even texts. OUT gets choices.json.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.exits import (
    Depth,
    Read,
    Stops,
    at_depth,
    contexts_of,
    frozen_pass,
    judged,
    read,
)
from energylens.ingest.texts import iter_texts
from energylens.lens.batching import pad
from energylens.lens.models import LanguageModel, load_model
from energylens.stats.clusters import clustered_mean

BEGINNING, CONTINUATION = 64, 24
N_OTHERS = 3
RULES = ("whole model", "random", "entropy", "predicted energy", "predicted drop")
_TOGETHER = 4
"""Texts in a pass."""


@dataclass(frozen=True)
class Choice:
    """A beginning with its own continuation, which comes first, and others'."""

    text: int
    rows: list[list[int]]


def choices_of(model: LanguageModel, texts: str, most: int) -> list[Choice]:
    """The odd texts that are long enough, of each category as many as come first."""
    start = [] if model.bos_id is None else [model.bos_id]
    long: dict[str | None, list[tuple[int, list[int]]]] = {}
    for number, text in enumerate(iter_texts(texts)):
        ids = model.tokenizer.encode(text.text, add_special_tokens=False)
        if number % 2 and len(ids) >= BEGINNING + CONTINUATION:
            long.setdefault(text.category, []).append((number, ids))
    found = []
    for own in long.values():
        kept = own[:most]
        for place, (number, ids) in enumerate(kept if len(kept) > N_OTHERS else []):
            others = [kept[(place + step) % len(kept)][1] for step in range(N_OTHERS + 1)]
            begin = [*start, *ids[:BEGINNING]]
            ends = [other[BEGINNING : BEGINNING + CONTINUATION] for other in others]
            found.append(Choice(number, [[*begin, *end] for end in ends]))
    return found


def stops_of(model: LanguageModel, at: Depth, rule: str, share: float) -> Stops:
    """Which tokens of a stream stop by a rule: the lowest share of those of the pass, so that rules
    are held against each other at equal compute."""
    drawn = torch.Generator().manual_seed(0)

    def scores_of(rows: Tensor) -> Tensor:
        if rule == "random":
            return torch.rand(len(rows), generator=drawn)
        if rule == "entropy":
            nothing = torch.zeros(len(rows), dtype=torch.long)
            return torch.from_numpy(judged(model, at.lens(rows), nothing)[2])
        return at.heads[rule](rows)[:, 0]

    def stops(stream: Tensor) -> Tensor:
        if rule == "whole model":
            return torch.zeros(stream.shape[:2], dtype=torch.bool)
        scores = scores_of(stream.flatten(0, 1).float())
        return (scores <= scores.quantile(share)).reshape(stream.shape[:2])

    return stops


def judge(
    model: LanguageModel, depth: int, at: Depth, rule: str, share: float, choices: list[Choice]
) -> dict[str, Any]:  # fmt: skip
    """Share of the texts whose own continuation is chosen, and how far ahead it is."""
    chooses = stops_of(model, at, rule, share)
    right, ahead, n_stopped, n_tokens = [], [], 0, 0
    for first in range(0, len(choices), _TOGETHER):
        rows = [row for choice in choices[first : first + _TOGETHER] for row in choice.rows]
        ids, mask = pad(rows)
        stream, stopped = frozen_pass(model, ids, mask, depth, chooses)
        begin = ids.shape[1] - CONTINUATION - 1
        own, gone = stream[:, begin:-1], stopped[:, begin:-1]
        own[gone] = at.lens(own[gone])
        energy, _, _ = judged(model, own.flatten(0, 1), ids[:, begin + 1 :].flatten())
        means = energy.reshape(-1, N_OTHERS + 1, CONTINUATION).mean(axis=2)
        right += (means.argmin(axis=1) == 0).tolist()
        ahead += (means[:, 1:].min(axis=1) - means[:, 0]).tolist()
        n_stopped, n_tokens = n_stopped + int(gone.sum()), n_tokens + gone.numel()
    text = np.array([choice.text for choice in choices])
    told = clustered_mean(np.array(right, dtype=np.float64), text)
    return {
        "depth": depth, "share": share, "rule": rule, "right": asdict(told),
        "ahead": asdict(clustered_mean(np.array(ahead, dtype=np.float64), text)),
        "stopped": n_stopped / n_tokens,
    }  # fmt: skip


def rows_of(
    model: LanguageModel, found: Read, depths: list[int], share: float, choices: list[Choice]
) -> Iterator[dict[str, Any]]:
    """A row a depth and rule."""
    for depth in depths:
        at = at_depth(model, found, depth)
        for rule in RULES:
            yield judge(model, depth, at, rule, share, choices)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("out", type=Path)
    asked.add_argument("model")
    asked.add_argument("texts")
    asked.add_argument("--depths", type=int, nargs="+", default=[20, 24, 28])
    asked.add_argument("--share", type=float, default=0.5)
    asked.add_argument("--contexts", type=int, default=400)
    asked.add_argument("--texts-a-category", type=int, default=25)
    asked.add_argument("--dtype", default="float32")
    given = asked.parse_args()
    model = load_model(given.model, given.dtype)
    found = read(model, contexts_of(model, given.texts, given.contexts), given.depths)
    choices = choices_of(model, given.texts, given.texts_a_category)
    rows: list[dict[str, Any]] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for row in rows_of(model, found, given.depths, given.share, choices):
        rows.append(row)
        told = {"choices": len(choices), "rows": rows}
        (given.out / "choices.json").write_text(json.dumps(told, indent=1))
        print(row["depth"], row["rule"], row["right"], row["stopped"], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
