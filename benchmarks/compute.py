"""Does compute that follows the foretold energy drop lose less than compute that does not?

    python -m benchmarks.compute OUT --texts TRAIN --heldout HELDOUT [--n-tokens N] [--seeds 0 1]

Each cell is a model and a seed, trained on the same batches within a budget of tokens: a MesaNet
and its twin with attention whose blocks are exits; the same without exits, which says what exits
cost; and shallower ones without exits at three learning rates, which spend the same compute on
every token. Every rule of stopping is calibrated on the even held-out texts for the same mean depth
and judged on the odd ones: with thresholds of its own, one for all blocks (own), and with as many
tokens stopping after each block as under the predicted drop (as drop); states of stopped tokens
frozen or skipped. A cell leaves OUT/<cell>/tokens.parquet, the energy of every token, and its rows
as --results/<cell>.json; one that has both is not done again, and half a training goes on.
--results/summary.json pools the seeds: nats lost against all blocks, and against random at equal
depth, paired by token, 95 %, clustered by text. Without --texts the standard library is read.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import PreTrainedTokenizerBase

from benchmarks.routing import N_CTX, SHAPE, read_texts, trained_tokenizer
from energylens.lens.batching import batches, pad
from energylens.mesanet.calibration import (
    Batch,
    by_shares,
    calibrate,
    early_energy,
    shares_of,
    tell,
    whole_pass,
)
from energylens.mesanet.exits import ExitPolicy, Rule, States
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.stats.clusters import clustered_mean
from energylens.training.corpus import pack
from energylens.training.loop import Watch
from energylens.training.mesanet import MesaNetTrainingConfig, train

LAYERS = 5
RATES = (1.5e-3, 3e-3, 6e-3)
OWN: tuple[Rule, ...] = (
    "random",
    "fixed depth",
    "entropy",
    "predicted energy",
    "predicted drop",
    "drop shuffled",
    "previous drop",
    "oracle",
)
AS_DROP: tuple[Rule, ...] = (
    "random",
    "entropy",
    "predicted energy",
    "drop shuffled",
    "previous drop",
    "oracle",
)
SKIPPED: tuple[Rule, ...] = ("random", "entropy", "predicted energy", "predicted drop")
_PASS_TOKENS = 2048


@dataclass(frozen=True)
class Cell:
    """One model, trained once."""

    family: str
    kind: str
    seed: int
    layers: int = LAYERS
    rate: float = 3e-3

    @property
    def name(self) -> str:
        return f"{self.family}-{self.kind.replace(' ', '-')}-{self.seed}"


@dataclass(frozen=True)
class Heldout:
    """Held-out texts in batches, and which text each real token with a next one is of."""

    batches: list[Batch]
    text: np.ndarray

    def counted(self, values: Sequence[torch.Tensor]) -> np.ndarray:
        """Of `[batch, pos]` tensors, the tokens that have a next one."""
        kept = [
            v[:, :-1][b.mask[:, :-1] & b.mask[:, 1:]]
            for v, b in zip(values, self.batches, strict=True)
        ]
        return torch.cat(kept).double().numpy()


def cells(families: Sequence[str], seeds: Sequence[int], is_short: bool) -> Iterator[Cell]:
    """All of them, seed by seed."""
    for seed, family in product(seeds, families):
        yield Cell(family, "exits", seed)
        if is_short:
            continue
        yield Cell(family, "plain", seed)
        for layers, rate in product(range(2, LAYERS), RATES):
            yield Cell(family, f"shallow {layers} {rate:g}", seed, layers, rate)


def heldout(
    tokenizer: PreTrainedTokenizerBase, texts: list[tuple[str, str]], n_tokens: int
) -> tuple[Heldout, Heldout]:
    """The first piece of each text, until each half has so many tokens: even texts, odd texts."""
    halves: list[list[list[int]]] = [[], []]
    for number, (_, text) in enumerate(texts):
        half = halves[number % 2]
        ids = pack(tokenizer, [text])[:N_CTX].tolist()
        if len(ids) > 1 and sum(map(len, half)) < n_tokens:
            half.append(ids)
    return _batched(halves[0]), _batched(halves[1])


def _batched(pieces: list[list[int]]) -> Heldout:
    found, text = [], []
    for rows in batches([len(piece) for piece in pieces], _PASS_TOKENS):
        ids, mask = pad([pieces[row] for row in rows])
        found.append(Batch(ids, mask.bool()))
        text += [row for row in rows for _ in pieces[row][1:]]
    return Heldout(found, np.array(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts")
    parser.add_argument("--heldout")
    parser.add_argument("--n-tokens", type=int, default=2_000_000)
    parser.add_argument("--heldout-tokens", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--families", nargs="+", default=["mesa", "attention"])
    parser.add_argument("--depths", type=float, nargs="+", default=[2.0, 3.0, 4.0])
    parser.add_argument("--short", action="store_true", help="models with exits only")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/compute"))
    asked = parser.parse_args()
    train_texts, heldout_texts = read_texts(asked.texts, asked.heldout)
    tokenizer = trained_tokenizer(asked.out, [text for _, text in train_texts])
    ids = pack(tokenizer, [text for _, text in train_texts])
    even, odd = heldout(tokenizer, heldout_texts, asked.heldout_tokens)
    todo = list(cells(asked.families, asked.seeds, asked.short))
    print(  # noqa: T201
        f"{len(todo)} cells of {asked.n_tokens:,} training tokens; {len(even.text):,} held-out "
        f"tokens to calibrate, {len(odd.text):,} of {len(set(odd.text.tolist()))} texts to judge",
        flush=True,
    )
    asked.results.mkdir(parents=True, exist_ok=True)
    for cell in todo:
        told = asked.results / f"{cell.name}.json"
        if told.exists() and (asked.out / cell.name / "tokens.parquet").exists():
            continue
        model, facts = _trained(asked.out / cell.name, cell, asked.n_tokens, ids)
        columns, rows = _judged(model, cell, even, odd, asked.depths)
        columns.write_parquet(asked.out / cell.name / "tokens.parquet")
        told.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
        for row in rows:
            print(cell.name, json.dumps(row), flush=True)  # noqa: T201
    summary = list(pooled(asked.out, [c for c in todo if c.kind == "exits"]))
    (asked.results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


def _trained(
    place: Path, cell: Cell, n_tokens: int, ids: np.ndarray
) -> tuple[MesaNetForCausalLM, dict[str, Any]]:
    exits = {"exits": True, "exit_energy": True} if cell.kind == "exits" else {}
    config = MesaNetTrainingConfig(
        n_ctx=N_CTX,
        n_tokens=n_tokens,
        seed=cell.seed,
        learning_rate=cell.rate,
        model=SHAPE | {"num_hidden_layers": cell.layers, "mixer": cell.family} | exits,
    )
    since = time.perf_counter()
    watch: Watch[MesaNetForCausalLM] = Watch(lambda progress: None, save_every=50)
    model = train(config, ids, place / "checkpoint.safetensors", watch)
    return model, asdict(cell) | {
        "n_tokens": config.n_steps * config.tokens_per_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": round(time.perf_counter() - since, 1),
    }


def _judged(
    model: MesaNetForCausalLM, cell: Cell, even: Heldout, odd: Heldout, depths: Sequence[float]
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Energies of the odd texts' tokens, a column a row, and the rows."""
    since = time.perf_counter()
    whole = odd.counted([whole_pass(model, batch).energy for batch in odd.batches])
    facts = {"rule": "all blocks", "nats": float(whole.mean()), "depth": float(cell.layers)}
    rows: list[dict[str, Any]] = [facts | {"calibration_nats": _nats(model, even)}]
    columns = {"text": odd.text, "whole": whole}
    if cell.kind != "exits":
        return pl.DataFrame(columns), rows
    rows[0]["seconds"] = round(time.perf_counter() - since, 2)
    for depth in depths:
        drop = calibrate(model, even.batches, "predicted drop", depth)
        shares = shares_of(_depths(model, even, drop), cell.layers)
        for rule, stops, states in _plans():
            if stops == "as drop":
                policy = by_shares(model, even.batches, rule, shares, states, cell.seed)
            else:
                policy = calibrate(model, even.batches, rule, depth, states, cell.seed)
            row, energy = _under(model, odd, policy)
            columns[f"{depth:g}/{rule}/{stops}/{states}"] = energy
            named = {"rule": rule, "asked": depth, "stops": stops, "states": states}
            rows.append(named | row | {"lost": asdict(clustered_mean(energy - whole, odd.text))})
    return pl.DataFrame(columns), rows


def _plans() -> Iterator[tuple[Rule, str, States]]:
    for rule in OWN:
        yield rule, "own", "frozen"
    for rule in AS_DROP:
        yield rule, "as drop", "frozen"
    for rule in SKIPPED:
        yield rule, "own", "skipped"


def _under(
    model: MesaNetForCausalLM, odd: Heldout, policy: ExitPolicy
) -> tuple[dict[str, Any], np.ndarray]:
    given = tell(model, odd.batches, policy.rule)
    since = time.perf_counter()
    found = [early_energy(model, batch, policy) for batch in given]
    seconds = time.perf_counter() - since
    energy = odd.counted([energies for energies, _ in found])
    real = [depths[batch.mask] for (_, depths), batch in zip(found, given, strict=True)]
    blocks = float(torch.cat(real).double().mean())
    row = {"nats": float(energy.mean()), "depth": blocks, "seconds": round(seconds, 2)}
    return row, energy


def _depths(model: MesaNetForCausalLM, texts: Heldout, policy: ExitPolicy) -> torch.Tensor:
    return torch.cat([early_energy(model, b, policy)[1][b.mask] for b in texts.batches])


def _nats(model: MesaNetForCausalLM, texts: Heldout) -> float:
    found = texts.counted([whole_pass(model, batch).energy for batch in texts.batches])
    return float(found.mean())


def pooled(out: Path, done: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Each rule over the seeds of a family: energies of a token are averaged over the seeds."""
    for family in dict.fromkeys(cell.family for cell in done):
        frames = [
            pl.read_parquet(out / cell.name / "tokens.parquet")
            for cell in done
            if cell.family == family
        ]
        text = frames[0]["text"].to_numpy()
        by_seed = {n: np.stack([f[n].to_numpy() for f in frames]) for n in frames[0].columns[1:]}
        for name in frames[0].columns[2:]:
            depth, rule, stops, states = name.split("/")
            lost = by_seed[name] - by_seed["whole"]
            less = by_seed[name] - by_seed[f"{depth}/random/own/{states}"]
            yield {
                "family": family, "asked": float(depth), "rule": rule, "stops": stops,
                "states": states, "seeds": len(frames),
                "lost": asdict(clustered_mean(lost.mean(0), text)),
                "against_random": asdict(clustered_mean(less.mean(0), text)),
                "lost_by_seed": lost.mean(1).tolist(),
            }  # fmt: skip


if __name__ == "__main__":
    main()
