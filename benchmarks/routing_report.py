"""Tables of what `python -m benchmarks.routing OUT` left.

    python -m benchmarks.routing_report OUT FILE.md [--heldout HELDOUT]

Energies are of held-out windows. A condition is held against `full` of the same seed, which was
trained on the same batches, window by window; the budget by energy against its own control too.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy import stats
from transformers import PreTrainedTokenizerFast

from benchmarks.routing import ATTEMPTS, CLAIM, heldout_windows, read_texts, window_energies
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.stats.clusters import clustered_mean

EFAS_RESULTS = Path("benchmarks/results/efas_routing")
SOLVER_STEPS = (1, 2, 3, 4, 6, 8, 16)
_REFERENCE = "full"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--texts")
    parser.add_argument("--heldout")
    asked = parser.parse_args()
    text = "\n".join(report(asked.out, asked.texts, asked.heldout))
    asked.target.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {asked.target}")  # noqa: T201


def report(out: Path, texts: str | None, heldout: str | None) -> Iterator[str]:
    """The file, part by part."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*/run.json"))]
    windows = pl.concat([pl.read_parquet(path) for path in sorted(out.glob("*/windows.parquet"))])
    first = next(run for run in runs if run["condition"] == _REFERENCE)
    yield "# Does energy guide routing to better predictions?\n"
    yield (
        f"Made by `python -m benchmarks.routing_report`. {len(runs)} trainings of "
        f"{first['n_tokens']:,} tokens each on the same batches by seed, "
        f"{windows['window'].n_unique()} held-out windows of 256 tokens in "
        f"{windows['category'].n_unique()} kinds of text.\n"
    )
    yield from _energies(runs)
    yield from _differences(windows, _REFERENCE, _names()[1:])
    yield from _differences(windows, "budget shuffled", ["budget by energy"])
    yield from _by_category(windows)
    yield from _steps(out, texts, heldout)
    yield from efas_section(EFAS_RESULTS)


def efas_section(results: Path) -> Iterator[str]:
    """What the cells of benchmarks.efas_routing came to; nothing without any."""
    summary = results / "summary.json"
    if not summary.exists():
        return
    rows = json.loads(summary.read_text())
    cells = [json.loads(path.read_text()) for path in sorted(results.glob("*-*.json"))]
    shown = [cell for cell in cells if cell["condition"] == "efas"]
    sizes = cells[0]["sizes"]
    yield "\n## Features with significant EFAS, shown to a router\n"
    yield (
        f"Made by `python -m benchmarks.efas_routing`, which says what the conditions are: "
        f"{len(rows[0]['seeds'])} seed(s), {cells[0]['n_tokens']:,} tokens a cell, the router of "
        f"block {sizes['block']}, {sizes['top']} features, {len(cells[0]['windows'])} held-out "
        f"windows. Significant were "
        f"{', '.join(str(cell['significant']) for cell in shown)} of "
        f"{', '.join(str(cell['tested']) for cell in shown)} tested features. Nats a token; "
        "positive is worse than what it is held against.\n"
    )
    yield "| condition | against | difference, 95 % over windows | 95 % over seeds |"
    yield "|---|---|---|---|"
    for row in rows:
        windows, seeds = row["over_windows"], row["over_seeds"]
        spread = (
            "one seed"
            if seeds["low"] is None
            else f"{seeds['value']:+.4f} [{seeds['low']:+.4f}, {seeds['high']:+.4f}]"
        )
        yield (
            f"| {row['condition']} | {row['against']} | {windows['value']:+.4f} "
            f"[{windows['low']:+.4f}, {windows['high']:+.4f}] | {spread} |"
        )
    ratios = [
        np.log(np.array(cell["matched_n_active"]) / np.array(cell["efas_n_active"]))
        for cell in shown
    ]
    yield (
        f"\nThe matched features are active {np.exp(np.mean(ratios)):.2f} times as often as those "
        "of efas (geometric mean): the surest are the most frequent, and few as frequent have no "
        "significant EFAS."
    )
    moved: dict[str, list[float]] = {}
    for cell in cells:
        if cell["moved"] is not None:
            moved.setdefault(cell["condition"], []).append(cell["moved"])
    said = ", ".join(f"{name} {np.mean(values):.1%}" for name, values in moved.items())
    yield (
        f"\nTokens that choose another anchor first when what was learned of the features is left "
        f"out: {said}."
    )


def _energies(runs: list[dict]) -> Iterator[str]:
    yield "## Held-out energy, nats a token\n"
    yield "| condition | parameters | seed 0 | seed 1 | seed 2 | minutes, one core |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in _names():
        own = {run["seed"]: run for run in runs if run["condition"] == name}
        if own:
            cells = [
                f"{own[s]['heldout_nats_per_token']:.4f}" if s in own else "" for s in (0, 1, 2)
            ]
            minutes = np.mean([run["seconds"] for run in own.values()]) / 60
            n = next(iter(own.values()))["parameters"]
            yield f"| {name} | {n:,} | {' | '.join(cells)} | {minutes:.1f} |"


def _differences(windows: pl.DataFrame, reference: str, names: list[str]) -> Iterator[str]:
    yield f"\n## Difference from `{reference}` of the same seed, nats a token\n"
    yield (
        f"Positive is worse than {reference}. In brackets the 95 % interval over windows, "
        "which says how sure the difference of these two trainings is; the last column is over "
        "seeds, which says how sure it is of such trainings.\n"
    )
    yield "| condition | seed 0 | seed 1 | seed 2 | mean over seeds |"
    yield "|---|---|---|---|---|"
    for name in names:
        cells, means = [], []
        for seed in (0, 1, 2):
            paired = _paired(windows, name, seed, reference)
            if paired.is_empty():
                cells.append("")
                continue
            found = clustered_mean(
                paired["difference"].to_numpy(), paired["window"].to_numpy().astype(np.int64)
            )
            means.append(found.value)
            cells.append(f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
        if means:
            yield f"| {name} | {' | '.join(cells)} | {_over_seeds(means)} |"


def _over_seeds(means: list[float]) -> str:
    mean = float(np.mean(means))
    if len(means) < 2:
        return f"{mean:+.4f} (one seed)"
    reach = float(stats.t.ppf(0.975, len(means) - 1) * stats.sem(means))
    return f"{mean:+.4f} [{mean - reach:+.4f}, {mean + reach:+.4f}]"


def _paired(
    windows: pl.DataFrame, name: str, seed: int, reference: str = _REFERENCE
) -> pl.DataFrame:
    own = windows.filter((pl.col("condition") == name) & (pl.col("seed") == seed))
    other = windows.filter((pl.col("condition") == reference) & (pl.col("seed") == seed))
    return own.join(other, on="window", suffix="_other").with_columns(
        (pl.col("nats_per_token") - pl.col("nats_per_token_other")).alias("difference")
    )


def _by_category(windows: pl.DataFrame) -> Iterator[str]:
    categories = windows["category"].unique().sort().to_list()
    yield "\n## The same by kind of text, mean over seeds\n"
    yield f"| condition | {' | '.join(categories)} |"
    yield f"|---|{'---:|' * len(categories)}"
    for name in _names()[1:]:
        parts = [_paired(windows, name, seed) for seed in (0, 1, 2)]
        both = pl.concat([part for part in parts if not part.is_empty()] or parts[:1])
        if both.is_empty():
            continue
        means = dict(both.group_by("category").agg(pl.col("difference").mean()).iter_rows())
        yield f"| {name} | {' | '.join(f'{means[c]:+.3f}' for c in categories)} |"


def _steps(out: Path, texts: str | None, heldout: str | None) -> Iterator[str]:
    """Could harder tokens use more solver steps? The most any way of sharing them out can win."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    windows = heldout_windows(tokenizer, read_texts(texts, heldout)[1]).ids[::4]
    model = MesaNetForCausalLM.from_pretrained(out / f"{_REFERENCE}-0").eval()
    model.config.solver_tolerance = 0.0
    yield f"\n## Steps of the solver, full, seed 0 (trained with 8), {len(windows)} windows\n"
    yield "| steps at every token | nats a token |\n|---:|---:|"
    for steps in SOLVER_STEPS:
        model.config.solver_steps = steps
        yield f"| {steps} | {window_energies(model, windows).mean():.4f} |"
    needed, energy = _needed(model, torch.from_numpy(windows[::2]).long())
    ranks = stats.rankdata(needed), stats.rankdata(energy)
    rho = float(np.corrcoef(*ranks)[0, 1])
    yield (
        f"\nSteps to a residual of 1e-4, the slowest head and block of each token: mean "
        f"{needed.mean():.1f}, from {needed.min()} to {needed.max()}; rank correlation with the "
        f"token's energy {rho:+.3f}."
    )


@torch.no_grad()
def _needed(model: MesaNetForCausalLM, ids: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    model.config.solver_steps, model.config.solver_tolerance = 16, 1e-4
    out = model(ids)
    assert out.logits is not None and out.solver_steps, "a mesa mixer says its steps"
    energy = torch.nn.functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    steps = torch.stack(out.solver_steps).amax(0)[:, :-1].flatten()
    return steps.numpy(), energy.numpy()


def _names() -> list[str]:
    return [condition.name for condition in (*CLAIM, *ATTEMPTS)]


if __name__ == "__main__":
    main()
