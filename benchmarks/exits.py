"""Which tokens may stop early in a model that was trained whole: heads fitted after the fact.

    python -m benchmarks.exits OUT MODEL TEXTS [--depths 20 24 26 28] [--contexts N]

MODEL is read as energylens reads it. On the even texts an affine lens is fitted for each depth (to
the last stream, by ridge regression), and on the stream there two heads of equal size: one
foretells the energy of stopping, one the drop, what the blocks that would be skipped are worth. On
the odd texts a share of the tokens stops where a rule says so, and is read out by the lens. Told
are nats lost, with the states of later tokens whole (own), and with the stopped token's last vector
in the place of all later ones, which attention then reads (frozen, as in CALM, Schuster et al.,
2022). OUT gets exits.json; intervals are 95 %, clustered by text.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.ingest.texts import iter_texts
from energylens.lens.batching import batches, pad
from energylens.lens.models import LanguageModel, load_model, run_hooks
from energylens.lens.pieces import special_ids
from energylens.stats.clusters import clustered_mean

N_CTX, BATCH_TOKENS = 128, 2048
SHARES = (0.1, 0.25, 0.5)
FROZEN_SHARES = (0.25, 0.5)
FROZEN_RULES = ("random", "entropy", "predicted energy", "predicted drop", "oracle")
RIDGES = tuple(10.0**power for power in range(-2, 6))
_ROWS = 512
"""Tokens whose logits are made at once."""


@dataclass(frozen=True)
class Context:
    """A piece of a text, and which of its tokens count: those with a next one, BOS left out."""

    text: int
    ids: list[int]
    counts: list[bool]


@dataclass(frozen=True)
class Read:
    """The counted tokens of some texts, n in all."""

    text: Int[np.ndarray, " n"]
    context: Int[np.ndarray, " n"]
    pos: Int[np.ndarray, " n"]
    target: Int[Tensor, " n"]
    stream: dict[int, Float[Tensor, "n d_model"]]
    """After each depth's last block, and under -1 the last stream."""
    energy: Float[np.ndarray, " n"]
    """Of the whole model."""
    is_right: Bool[np.ndarray, " n"]


def contexts_of(model: LanguageModel, texts: str, most: int) -> list[Context]:
    """Texts of each category in turn, cut to pieces as an ingest cuts them."""
    special = set(special_ids(model.tokenizer))
    start = [] if model.bos_id is None else [model.bos_id]
    by_category: dict[str | None, list[list[Context]]] = {}
    for number, text in enumerate(iter_texts(texts)):
        ids = model.tokenizer.encode(text.text, add_special_tokens=False)
        room = N_CTX - len(start)
        found = []
        for at in range(0, len(ids), room):
            own = [*start, *ids[at : at + room]]
            counts = [n > 0 and i not in special for n, i in enumerate(own)]
            found.append(Context(number, own, [*counts[:-1], False]))
        by_category.setdefault(text.category, []).append(found)
    chosen: list[Context] = []
    for round_ in range(max(map(len, by_category.values()))):
        for held in by_category.values():
            if round_ < len(held) and len(chosen) < most:
                chosen += held[round_]
    return [one for one in chosen if any(one.counts)]


def passes(contexts: list[Context]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of contexts: which, ids and mask."""
    for batch in batches([len(c.ids) for c in contexts], BATCH_TOKENS):
        ids, mask = pad([contexts[i].ids for i in batch])
        yield batch, ids, mask


def read(model: LanguageModel, contexts: list[Context], depths: list[int]) -> Read:
    """One pass over all contexts."""
    names = {depth: model.resid_post(depth - 1) for depth in depths}
    names[-1] = model.resid_post(model.n_layers - 1)
    parts: dict[str, list[Any]] = {"text": [], "context": [], "pos": [], "target": []}
    streams: dict[int, list[Tensor]] = {depth: [] for depth in names}
    for batch, ids, mask in passes(contexts):
        _, cache = run_hooks(model, ids, mask.long(), names.values())
        for row, number in enumerate(batch):
            context = contexts[number]
            at = torch.tensor([n for n, counts in enumerate(context.counts) if counts])
            parts["text"].append(np.full(len(at), context.text))
            parts["context"].append(np.full(len(at), number))
            parts["pos"].append(at.numpy())
            parts["target"].append(ids[row, at + 1])
            for depth, name in names.items():
                streams[depth].append(cache[name][row, at].float())
    stream = {depth: torch.cat(rows) for depth, rows in streams.items()}
    target = torch.cat(parts["target"])
    energy, is_right, _ = judged(model, stream[-1], target)
    named = {name: np.concatenate(parts[name]) for name in ("text", "context", "pos")}
    return Read(**named, target=target, stream=stream, energy=energy, is_right=is_right)


def judged(
    model: LanguageModel, stream: Float[Tensor, "n d_model"], target: Int[Tensor, " n"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy of the true next token, whether it is the likeliest, and the entropy."""
    energies, right, entropies = [], [], []
    with torch.no_grad():
        for rows, wanted in zip(stream.split(_ROWS), target.split(_ROWS), strict=True):
            logp = model.readout.logits(rows).log_softmax(-1)
            energies.append(-logp.gather(1, wanted[:, None])[:, 0])
            right.append(logp.argmax(-1) == wanted)
            entropies.append(-(logp.exp() * logp).sum(-1))
    return torch.cat(energies).numpy(), torch.cat(right).numpy(), torch.cat(entropies).numpy()


@dataclass(frozen=True)
class Affine:
    """x W + b."""

    weight: Float[Tensor, "d_in d_out"]
    bias: Float[Tensor, " d_out"]

    def __call__(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        return x @ self.weight + self.bias


def ridge(x: Tensor, y: Tensor, text: np.ndarray) -> Affine:
    """Ridge regression; the penalty that foretells a quarter of the texts best from the others."""
    judged_on = torch.from_numpy(text % 8 == 0)
    best = min(RIDGES, key=lambda r: float((_ridge(x[~judged_on], y[~judged_on], r)(x[judged_on])
                                            - y[judged_on]).square().mean()))  # fmt: skip
    return _ridge(x, y, best)


def _ridge(x: Tensor, y: Tensor, penalty: float) -> Affine:
    x64, y64 = x.double(), y.double()
    mean_x, mean_y = x64.mean(0), y64.mean(0)
    centred = x64 - mean_x
    gram = centred.T @ centred
    scale = gram.diagonal().mean() / 1e3
    gram.diagonal().add_(penalty * scale)
    weight = torch.linalg.solve(gram, centred.T @ (y64 - mean_y))
    return Affine(weight.float(), (mean_y - mean_x @ weight).float())


@dataclass(frozen=True)
class Depth:
    """What a rule may know of the counted tokens at one depth, and what stopping there costs."""

    lens: Affine
    heads: dict[str, Affine]
    """What foretells energy and drop, by the rule that asks it."""
    cost: Float[np.ndarray, " n"]
    """Energy of stopping less that of the whole model: the drop."""
    is_right: Bool[np.ndarray, " n"]
    scores: dict[str, Float[np.ndarray, " n"]]
    """Of each rule: the lowest stop first."""


def at_depth(model: LanguageModel, found: Read, depth: int) -> Depth:
    """Fit lens and heads on the even texts, and judge every token by them."""
    even = torch.from_numpy(found.text % 2 == 0)
    x, own = found.stream[depth], found.text[found.text % 2 == 0]
    lens = ridge(x[even], found.stream[-1][even], own)
    energy, is_right, entropy = judged(model, lens(x), found.target)
    cost = energy - found.energy

    heads = {}
    for rule, what in (("predicted energy", energy), ("predicted drop", cost)):
        heads[rule] = ridge(x[even], torch.from_numpy(what).float()[even, None], own)
    foretold = {rule: head(x)[:, 0].numpy() for rule, head in heads.items()}
    follows = (np.diff(found.context, prepend=-1) == 0) & (np.diff(found.pos, prepend=-9) == 1)
    previous = np.where(follows, np.roll(cost, 1), np.median(cost))
    shuffled = np.random.default_rng(0).permutation(foretold["predicted drop"])
    others = {"previous drop": previous, "drop shuffled": shuffled, "oracle": cost}
    return Depth(lens, heads, cost, is_right, {"entropy": entropy, **foretold, **others})


def chosen(scores: np.ndarray, share: float, among: np.ndarray) -> np.ndarray:
    """The lowest share of some tokens."""
    n = round(share * among.sum())
    order = np.flatnonzero(among)[np.argsort(scores[among], kind="stable")[:n]]
    found = np.zeros(len(scores), dtype=bool)
    found[order] = True
    return found


def own_losses(found: Read, depth: int, at: Depth) -> Iterator[dict[str, Any]]:
    """Nats lost by the stopped tokens themselves, a row a rule and share."""
    odd = found.text % 2 == 1
    text, cost = found.text[odd], at.cost[odd].astype(np.float64)
    for share in SHARES:
        by_chance = share * cost  # what a draw of so many loses on average
        yield _row("own", depth, share, "random", by_chance, by_chance, text) | {
            "accuracy_lost": share * float((found.is_right[odd] * 1.0 - at.is_right[odd]).mean())
        }
        for rule, scores in at.scores.items():
            stops = chosen(scores, share, odd)[odd]
            lost = np.where(stops, cost, 0.0)
            right = np.where(stops, at.is_right[odd], found.is_right[odd])
            yield _row("own", depth, share, rule, lost, by_chance, text) | {
                "accuracy_lost": float((found.is_right[odd] * 1.0 - right).mean())
            }


def _row(
    states: str, depth: int, share: float, rule: str, lost: np.ndarray, by_chance: np.ndarray,
    text: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    mean, less = clustered_mean(lost, text), clustered_mean(lost - by_chance, text)
    return {
        "states": states, "depth": depth, "share": share, "rule": rule,
        "lost": asdict(mean), "against_random": asdict(less),
    }  # fmt: skip


def frozen_losses(
    model: LanguageModel, contexts: list[Context], found: Read, depth: int, at: Depth
) -> Iterator[dict[str, Any]]:
    """Nats lost where later tokens see the stopped ones as they were when they stopped."""
    odd = found.text % 2 == 1
    drawn = np.random.default_rng(depth).random(len(odd))
    for share in FROZEN_SHARES:
        lost = {}
        for rule in FROZEN_RULES:
            scores = drawn if rule == "random" else at.scores[rule]
            stops = chosen(scores, share, odd)
            lost[rule] = frozen_energy(model, contexts, found, depth, at.lens, stops)[odd]
            lost[rule] -= found.energy[odd]
        for rule, own in lost.items():
            yield _row("frozen", depth, share, rule, own, lost["random"], found.text[odd])


Stops = Callable[[Float[Tensor, "batch pos d_model"]], Bool[Tensor, "batch pos"]]
"""Which tokens stop, from the stream at the depth."""


def frozen_pass(
    model: LanguageModel, ids: Tensor, mask: Tensor, depth: int, stops: Stops
) -> tuple[Float[Tensor, "batch pos d_model"], Bool[Tensor, "batch pos"]]:
    """The last stream where some tokens stop at a depth and stay what they are there, and which."""
    first, last = model.resid_post(depth - 1), model.resid_post(model.n_layers - 1)
    held: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any) -> None:
        held["stream"], held["stops"] = value, stops(value)

    def freeze(value: Tensor, hook: Any) -> Tensor:
        return torch.where(held["stops"][..., None], held["stream"], value)

    later = [model.resid_post(layer) for layer in range(depth, model.n_layers)]
    edits = [(first, keep), *((name, freeze) for name in later)]
    _, cache = run_hooks(model, ids, mask.long(), [last], edits=edits)
    return cache[last].float(), held["stops"]


def frozen_energy(
    model: LanguageModel, contexts: list[Context], found: Read, depth: int, lens: Affine,
    stops: Bool[np.ndarray, " n"],
) -> np.ndarray:  # fmt: skip
    """Energies of all counted tokens where some of them stop at a depth."""
    place = {(c, p): n for n, (c, p) in enumerate(zip(found.context, found.pos, strict=True))}
    energy = found.energy.astype(np.float64).copy()
    for batch, ids, mask in passes(contexts):
        if all(contexts[number].text % 2 == 0 for number in batch):
            continue
        rows = [
            (row, pos, place[number, pos])
            for row, number in enumerate(batch)
            for pos in range(len(contexts[number].ids))
            if (number, pos) in place
        ]
        row, pos, at = torch.tensor(rows).T
        where = torch.zeros_like(mask)
        where[row, pos] = torch.from_numpy(stops)[at]
        stream, _ = frozen_pass(model, ids, mask, depth, lambda _, where=where: where)
        own, gone = stream[row, pos], where[row, pos]
        own[gone] = lens(own[gone])
        energy[at.numpy()] = judged(model, own, found.target[at])[0]
    return energy


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("out", type=Path)
    asked.add_argument("model")
    asked.add_argument("texts")
    asked.add_argument("--depths", type=int, nargs="+", default=[20, 24, 26, 28])
    asked.add_argument("--contexts", type=int, default=400)
    asked.add_argument("--dtype", default="float32")
    given = asked.parse_args()
    model = load_model(given.model, given.dtype)
    contexts = contexts_of(model, given.texts, given.contexts)
    found = read(model, contexts, given.depths)
    rows: list[dict[str, Any]] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for depth in given.depths:
        at = at_depth(model, found, depth)
        rows += own_losses(found, depth, at)
        rows += frozen_losses(model, contexts, found, depth, at)
        told = {"tokens": len(found.text), "texts": len(set(found.text.tolist())), "rows": rows}
        (given.out / "exits.json").write_text(json.dumps(told, indent=1))
        for row in rows[-40:]:
            if row["depth"] == depth:
                print(row["states"], depth, row["share"], row["rule"], row["lost"], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
