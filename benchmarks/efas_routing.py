"""Do features with significant EFAS, shown to a router, help it to better predictions?

    python -m benchmarks.routing OUT --texts TRAIN --heldout HELDOUT --groups claim
    python -m benchmarks.efas_routing OUT --texts TRAIN --heldout HELDOUT [--seeds 0] [--n-tokens N]

Begins with the MesaNets OUT/full-SEED that the first command leaves. Of the training texts every
16th is laid aside. For each seed, in OUT/efas-SEED: an SAE is trained on the stream before a block
(`energylens train sae`, on the other texts), texts laid aside are ingested with it, which gives
EFAS, and the model goes on training on the other texts, the same batches in each condition:
"nothing added"; "efas", the router of the block sees the features with the surest EFAS; "matched",
as many that are active as often and have no significant EFAS; "shuffled", those of efas, of another
window at the same place.

A condition and a seed are a cell: --results/<condition>-<seed>.json has the nats of every held-out
window, and how many tokens choose another anchor first when what was learned of the features is
left out. A cell that is there is not done again; half a training, SAE or ingest goes on.
--results/summary.json holds the cells against each other, window by window: 95 % over windows for
each seed and for the mean of the seeds, and over seeds.

Without options a seed reads 2,000,000 tokens for its SAE, 100,000 for EFAS and 4 times 500,000 for
the cells. A try with one seed is in benchmarks/results/efas_routing/try, begun with a model of
198,656 tokens on a sixth of the training texts and a third of the held-out ones:

    ... --seeds 0 --n-tokens 60000 --sae-tokens 100000 --efas-tokens 30000 --d-sae 320 --top 8

It took 75 s of processor time for SAE and ingest and about 140 s for the cells, on one core that
other programs used too: by that, a seed without options takes 15 to 20 minutes of processor time.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from transformers import PreTrainedTokenizerBase

from benchmarks.routing import (
    N_CTX,
    heldout_windows,
    read_texts,
    trained_tokenizer,
    window_energies,
)
from energylens.db.store import open_store
from energylens.ingest.on_request.causality import SIGNIFICANT
from energylens.ingest.on_request.router_features import (
    known_features,
    rate_matched,
    rows_of,
    significant_features,
)
from energylens.lens.models import load_model
from energylens.mesanet.anchors import Anchors
from energylens.mesanet.features import FeatureRows
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.stats.clusters import clustered_mean
from energylens.training.corpus import pack
from energylens.training.loop import Watch
from energylens.training.mesanet import MesaNetTrainingConfig, train

NOTHING, EFAS, MATCHED, SHUFFLED = "nothing added", "efas", "matched", "shuffled"
CONDITIONS = (NOTHING, EFAS, MATCHED, SHUFFLED)
AGAINST = (
    (EFAS, NOTHING),
    (MATCHED, NOTHING),
    (SHUFFLED, NOTHING),
    (EFAS, MATCHED),
    (EFAS, SHUFFLED),
)
RUN = "aside"
ASIDE = 16
"""Every so many of the training texts is kept for EFAS."""
_MOVED_WINDOWS = 32


@dataclass(frozen=True)
class Sizes:
    """What is spent on a seed."""

    n_tokens: int
    sae_tokens: int
    efas_tokens: int
    d_sae: int
    top: int
    block: int
    rate: float


@dataclass(frozen=True)
class Features:
    """What the cells of a seed are shown."""

    rows: dict[str, FeatureRows]
    """By condition."""
    facts: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts")
    parser.add_argument("--heldout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--n-tokens", type=int, default=500_000)
    parser.add_argument("--sae-tokens", type=int, default=2_000_000)
    parser.add_argument("--efas-tokens", type=int, default=100_000)
    parser.add_argument("--d-sae", type=int, default=640)
    parser.add_argument("--top", type=int, default=16)
    parser.add_argument("--block", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate at its top")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/efas_routing"))
    asked = parser.parse_args()
    sizes = Sizes(**{name: getattr(asked, name) for name in Sizes.__dataclass_fields__})
    texts, heldout_texts = read_texts(asked.texts, asked.heldout)
    tokenizer = trained_tokenizer(asked.out, [text for _, text in texts])
    aside, rest = texts[::ASIDE], [t for i, t in enumerate(texts) if i % ASIDE]
    ids = pack(tokenizer, [text for _, text in rest])
    windows = heldout_windows(tokenizer, heldout_texts)
    _write(asked.out / "efas-texts" / "rest.jsonl", rest)
    _write(asked.out / "efas-texts" / "aside.jsonl", _within(tokenizer, aside, sizes.efas_tokens))
    asked.results.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds:
        todo = [c for c in CONDITIONS if not _is_done(asked.results / _cell(c, seed), sizes)]
        if not todo:
            continue
        place = asked.out / f"efas-{seed}"
        _keep_base(asked.out / f"full-{seed}", place / "base", tokenizer)
        features = _features(place, asked.out / "efas-texts", sizes, seed)
        for condition in todo:
            found = _run(place, condition, seed, sizes, ids, windows.ids, features)
            (asked.results / _cell(condition, seed)).write_text(json.dumps(found) + "\n")
    summary = list(_summary(asked.results, asked.seeds))
    (asked.results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    for row in summary:
        print(json.dumps(row), flush=True)  # noqa: T201


def _cell(condition: str, seed: int) -> str:
    return f"{condition.replace(' ', '-')}-{seed}.json"


def _is_done(cell: Path, sizes: Sizes) -> bool:
    if not cell.exists():
        return False
    if json.loads(cell.read_text())["sizes"] != asdict(sizes):
        sys.exit(f"'{cell}' was made with other sizes; repeat them, or give other --results")
    return True


def _keep_base(trained: Path, base: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """The model that the cells begin with and its tokenizer, as a model to load."""
    if not (trained / "run.json").exists():
        sys.exit(
            f"there is no '{trained}'; run python -m benchmarks.routing {trained.parent} first"
        )
    if not (base / "tokenizer.json").exists():
        MesaNetForCausalLM.from_pretrained(trained).save_pretrained(base)
        tokenizer.save_pretrained(base)


def _write(path: Path, texts: Sequence[tuple[str, str]]) -> None:
    if not path.exists():
        rows = (json.dumps({"category": name, "text": text}) for name, text in texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n")


def _within(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]], n_tokens: int
) -> list[tuple[str, str]]:
    """The first texts that have so many tokens together."""
    lengths = np.cumsum([len(pack(tokenizer, [text])) for _, text in texts])
    return list(texts[: int(np.searchsorted(lengths, n_tokens)) + 1])


def _features(place: Path, texts: Path, sizes: Sizes, seed: int) -> Features:
    """Train the SAE, ingest with it, and choose."""
    hook = f"blocks.{sizes.block - 1}.hook_resid_post"
    base, sae, store = place / "base", place / "sae", place / "aside.lens"
    _energylens(
        "train", "sae", sae, "--model", base, "--texts", texts / "rest.jsonl", "--hook", hook,
        "--d-sae", sizes.d_sae, "--k", 16, "--n-tokens", sizes.sae_tokens, "--seed", seed,
        "--n-ctx", N_CTX,
    )  # fmt: skip
    _energylens(
        "ingest", store, "--model", base, "--sae", sae, "--texts", texts / "aside.jsonl",
        "--run-id", RUN, "--accept-gate",
    )  # fmt: skip
    model = load_model(str(base))
    shown = significant_features(store, RUN, None, model, sizes.top, str(texts / "rest.jsonl"))
    with open_store(store) as opened:
        known = known_features(opened, RUN, shown.sae.sae_id)
    matched = rate_matched(known, shown.chosen)
    if len(matched) < sizes.top:
        sys.exit(
            f"only {len(matched)} features have no significant EFAS; ask for --top {len(matched)}, "
            "or a larger --d-sae"
        )
    rows = {EFAS: shown.rows, MATCHED: rows_of(shown.sae, matched), SHUFFLED: shown.rows}
    facts = {
        "tested": len(known),
        "significant": sum(one.q < SIGNIFICANT for one in known),
        "contaminated": shown.contaminated,
        "q_at_most": shown.chosen[-1].q,
        "efas_n_active": [one.n_active for one in shown.chosen],
        "matched_n_active": [one.n_active for one in matched],
    }
    return Features(rows, facts)


def _energylens(*arguments: object) -> None:
    command = [sys.executable, "-m", "energylens", *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"failed: {' '.join(command)}")


def _run(
    place: Path,
    condition: str,
    seed: int,
    sizes: Sizes,
    ids: Int[np.ndarray, " n"],
    windows: Int[np.ndarray, "n n_ctx"],
    features: Features,
) -> dict[str, Any]:
    """Train a cell; what it comes to."""
    model = MesaNetForCausalLM.from_pretrained(place / "base")
    rows = features.rows.get(condition)
    if rows is not None:
        model.add_router_features(sizes.block, rows, condition == SHUFFLED)
    config = MesaNetTrainingConfig(
        n_ctx=N_CTX,
        n_tokens=sizes.n_tokens,
        seed=1000 + seed,
        learning_rate=sizes.rate,
        model={"from": f"full-{seed}", "condition": condition, **asdict(sizes)},
    )
    checkpoint = place / condition.replace(" ", "-") / "checkpoint.safetensors"
    watch: Watch[MesaNetForCausalLM] = Watch(lambda progress: None, save_every=50)
    since = time.perf_counter()
    model = train(config, ids, checkpoint, watch, begin_with=model)
    model.save_pretrained(checkpoint.parent)
    nats = window_energies(model, windows)
    shown = {} if rows is None else features.facts
    return {
        "condition": condition,
        "seed": seed,
        "sizes": asdict(sizes),
        "n_tokens": config.n_steps * config.tokens_per_step,
        "seconds": round(time.perf_counter() - since),
        **shown,
        "moved": _moved(model, sizes.block, windows[:: len(windows) // _MOVED_WINDOWS]),
        "nats": float(nats.mean()),
        "windows": nats.round(5).tolist(),
    }


@torch.no_grad()
def _moved(
    model: MesaNetForCausalLM, block: int, windows: Int[np.ndarray, "n n_ctx"]
) -> float | None:
    """The share of tokens that choose another anchor first when what the router learned of its
    features is left out; None where it sees none."""
    anchors = model.blocks[block].anchors
    assert isinstance(anchors, Anchors), "every block has anchors"
    if anchors.features is None:
        return None
    weight, ids = anchors.features.weight, torch.from_numpy(windows).long()
    kept, choices = weight.clone(), []
    for factor in (1.0, 0.0):
        weight.copy_(kept * factor)
        routing = model(ids).routing
        assert routing is not None, "the model gives it"
        choices.append(routing[block].choices[..., 0])
    weight.copy_(kept)
    return float((choices[0] != choices[1]).float().mean())


def _summary(results: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Each condition against another one, over the seeds that have both."""
    found = {
        (condition, seed): np.array(json.loads(path.read_text())["windows"])
        for condition in CONDITIONS
        for seed in seeds
        if (path := results / _cell(condition, seed)).exists()
    }
    for condition, other in AGAINST:
        both = [s for s in seeds if (condition, s) in found and (other, s) in found]
        if not both:
            continue
        differences = np.stack([found[condition, s] - found[other, s] for s in both])
        window = np.arange(differences.shape[1])
        yield {
            "condition": condition,
            "against": other,
            "seeds": both,
            "by_seed": [asdict(clustered_mean(one, window)) for one in differences],
            "over_windows": asdict(clustered_mean(differences.mean(0), window)),
            "over_seeds": _over_seeds(differences.mean(1)),
        }


def _over_seeds(means: Float[np.ndarray, " n"]) -> dict[str, float | None]:
    """Their mean and its 95 % by Student's t; no interval with one seed."""
    mean = float(means.mean())
    if len(means) < 2:
        return {"value": mean, "low": None, "high": None}
    reach = float(stats.t.ppf(0.975, len(means) - 1) * stats.sem(means))
    return {"value": mean, "low": mean - reach, "high": mean + reach}


if __name__ == "__main__":
    main()
