"""Does energy guide routing to better predictions? Trains each condition on the same batches.

    python -m benchmarks.routing OUT --texts TRAIN --heldout HELDOUT [--n-tokens N] [--one-seed]

What is done is kept in OUT, and the same command goes on after a stop. Each condition leaves its
model and `windows.parquet`: the energy of every held-out window. benchmarks/routing_report.py turns
them into tables. Without --texts the standard library's own source is trained on, every tenth file
of it held out.
"""

import argparse
import json
import random
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from energylens.ingest.texts import iter_texts
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.training.corpus import pack, train_tokenizer
from energylens.training.loop import Watch
from energylens.training.mesanet import MesaNetTrainingConfig, train

N_CTX = 256
VOCAB = 2048
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "n_anchors": 8,
    "shared_width": 96,
}
WINDOWS_A_CATEGORY = 48


@dataclass(frozen=True)
class Condition:
    """One way to route, and with which seeds it is trained."""

    name: str
    seeds: tuple[int, ...] = (0,)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Weights of losses."""


SEEDS = (0, 1, 2, 3, 4)
CLAIM = (
    Condition("full", (0, 1, 2)),
    Condition("energy none", (0, 1, 2), {"energy": "none"}),
    Condition("energy shuffled", (0, 1, 2), {"energy": "shuffled"}),
    Condition("router random", (0, 1, 2), {"router": "random"}),
    Condition("router hash", (0, 1, 2), {"router": "hash"}),
    Condition("dense twin", (0,), {"router": "dense"}),
    Condition("attention", (0,), {"mixer": "attention"}),
)
"""What has to differ for energy guidance to be worth anything."""

ATTEMPTS = (
    Condition("budget by energy", (0, 1, 2), {"budget": "by_energy"}),
    Condition("budget shuffled", (0, 1, 2), {"budget": "by_energy", "energy": "shuffled"}),
    Condition("energy entropy", (0,), {"energy": "entropy"}),
    Condition("last block only", (0,), {"energy_first_layer": 2}),
)
"""Other ways to let energy guide: how many anchors a token gets, another energy, later blocks."""

_EXITS = {"exits": True}
IDEAS = (
    Condition("full", SEEDS),
    Condition("energy none", SEEDS, {"energy": "none"}),
    Condition("energy previous", SEEDS, {"energy": "previous"}),
    Condition("energy previous shuffled", SEEDS, {"energy": "previous shuffled"}),
    Condition("exits", SEEDS, _EXITS),
    Condition("budget by drop", SEEDS, {"budget": "by_drop"} | _EXITS),
    Condition("budget by shuffled drop", SEEDS, {"budget": "by_shuffled_drop"} | _EXITS),
    Condition("log-linear", SEEDS, {"mixer": "log-linear"}),
    Condition("attention", SEEDS, {"mixer": "attention"}),
    Condition("no specialization loss", SEEDS, training={"concentration_weight": 0.0}),
    Condition("specialization loss x5", SEEDS, training={"concentration_weight": 0.01}),
    Condition("no efficiency loss", SEEDS, training={"balance_weight": 0.0}),
)
"""The energy a token itself had as the router's input; the drop's head deciding the number of
anchors; log-linear attention; the losses beside the next token's."""
GROUPS = {"claim": CLAIM, "attempts": ATTEMPTS, "ideas": IDEAS}


@dataclass(frozen=True)
class Heldout:
    """Windows of held-out text, each of one category."""

    ids: Int[np.ndarray, "n n_ctx"]
    categories: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts")
    parser.add_argument("--heldout")
    parser.add_argument("--n-tokens", type=int, default=1_000_000)
    parser.add_argument("--one-seed", action="store_true")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=["claim", "attempts"])
    asked = parser.parse_args()
    train_texts, heldout_texts = read_texts(asked.texts, asked.heldout)
    tokenizer = trained_tokenizer(asked.out, [text for _, text in train_texts])
    ids = pack(tokenizer, [text for _, text in train_texts])
    windows = heldout_windows(tokenizer, heldout_texts)
    print(  # noqa: T201
        f"{len(ids):,} training tokens, {len(windows.ids):,} held-out windows", flush=True
    )
    for group, seed in product(asked.groups, SEEDS):
        for condition in GROUPS[group]:
            if seed in condition.seeds and not (seed and asked.one_seed):
                _run(asked.out, condition, seed, asked.n_tokens, ids, windows)


def read_texts(
    texts: str | None, heldout: str | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Texts to train on, in random order, and texts held out, as (category, text)."""
    if texts and heldout:
        kept = [[(t.category or "none", t.text) for t in iter_texts(s)] for s in (texts, heldout)]
    elif texts or heldout:
        sys.exit("give both --texts and --heldout, or neither")
    else:
        library = Path(sysconfig.get_path("stdlib"))
        files = sorted(p for p in library.glob("*.py") if p.stat().st_size > 2000)
        read = [("python", p.read_text(errors="replace")) for p in files]
        kept = [[t for i, t in enumerate(read) if i % 10], read[::10]]
    random.Random(0).shuffle(kept[0])
    return kept[0], kept[1]


def trained_tokenizer(out: Path, texts: list[str]) -> PreTrainedTokenizerBase:
    """The tokenizer kept in a folder, or one trained on the texts."""
    if (out / "tokenizer.json").exists():
        return PreTrainedTokenizerFast.from_pretrained(out)
    tokenizer = train_tokenizer(texts, VOCAB)
    tokenizer.save_pretrained(out)
    return tokenizer


def heldout_windows(tokenizer: PreTrainedTokenizerBase, texts: list[tuple[str, str]]) -> Heldout:
    """The first windows of each category."""
    rows, categories = [], []
    for category in sorted({name for name, _ in texts}):
        ids = pack(tokenizer, [text for name, text in texts if name == category])
        found = ids[: len(ids) // N_CTX * N_CTX].reshape(-1, N_CTX)[:WINDOWS_A_CATEGORY]
        rows.append(found)
        categories += [category] * len(found)
    return Heldout(np.concatenate(rows), categories)


def _run(
    out: Path,
    condition: Condition,
    seed: int,
    n_tokens: int,
    ids: Int[np.ndarray, " n"],
    windows: Heldout,
) -> None:
    place = out / f"{condition.name.replace(' ', '-')}-{seed}"
    if (place / "windows.parquet").exists():
        return
    config = MesaNetTrainingConfig(
        n_ctx=N_CTX,
        n_tokens=n_tokens,
        seed=seed,
        model=SHAPE | condition.model,
        **condition.training,
    )
    losses: list[float] = []
    since = time.perf_counter()
    model = train(
        config, ids, place / "checkpoint.safetensors", Watch(lambda p: losses.append(p.loss))
    )
    seconds = time.perf_counter() - since
    model.save_pretrained(place)
    nats = window_energies(model, windows.ids)
    facts = {
        "condition": condition.name,
        "seed": seed,
        "n_tokens": config.n_steps * config.batch_size * N_CTX,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds),
        "training_loss": losses[-1] if losses else None,
        "heldout_nats_per_token": float(nats.mean()),
    }
    print(json.dumps(facts), flush=True)  # noqa: T201
    (place / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    (place / "checkpoint.safetensors").unlink()
    pl.DataFrame(
        {
            "condition": condition.name,
            "seed": seed,
            "window": np.arange(len(nats)),
            "category": windows.categories,
            "nats_per_token": nats,
        }
    ).write_parquet(place / "windows.parquet")


@torch.no_grad()
def window_energies(
    model: MesaNetForCausalLM, ids: Int[np.ndarray, "n n_ctx"]
) -> Float[np.ndarray, " n"]:
    """Mean energy of a token in each window, nats; eight windows in a pass, as in training."""
    rows = []
    for start in range(0, len(ids), 8):
        batch = torch.from_numpy(ids[start : start + 8]).long()
        logits = model(batch).logits
        assert logits is not None, "the model gives logits"
        energy = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), reduction="none"
        )
        rows.append(energy.view(len(batch), -1).double().mean(1).numpy())
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
