"""What the analyses say of several models, and of the same models with random weights.

    python -m benchmarks.controls OUT MODEL [MODEL ...]
    python -m benchmarks.controls OUT --report

Every model is read as it was trained and as it was before: the same class and configuration,
weights as the class draws them. For each, two SAEs are trained here in the same short way on the
bundled texts, the run is indexed, and a few features are ablated. The figures of each are kept in
OUT, one file a model; --report writes docs/findings/controls.md from those that are there.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.causality import agreements, measure_effects
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.ingest.texts import iter_texts
from energylens.lens.models import LanguageModel, load_model, run_hooks
from energylens.lens.pieces import special_ids
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactive_pairs
from energylens.queries.efas import efas_by_layer
from energylens.queries.energies import energy_by_layer
from energylens.queries.specialists import specialist_matrix
from energylens.training.saes.config import SaeTrainingConfig
from energylens.training.saes.finish import save_saes
from energylens.training.saes.loop import Report, train_saes
from energylens.training.saes.source import KeptSource

TEXTS = "builtin:categories"
VARIANTS = ("lens", "total", "calibration")
N_CTX = 128
D_SAE, K, STEPS, BATCH = 512, 16.0, 400, 1024
N_FEATURES, N_CONTEXTS = 5, 4
REPORT = Path(__file__).parents[1] / "docs/findings/controls.md"

_HALVES = """
SELECT count(*) FILTER (p_even < 0.001) AS n,
    avg((p_odd < 0.05 AND sign(t_odd) = sign(t_even))::INTEGER) FILTER (p_even < 0.001) AS share
FROM efas WHERE sae_id = $sae AND variant = 'lens' AND t_even IS NOT NULL AND t_odd IS NOT NULL
"""
_MATCHES = """
SELECT median(correlation), avg((correlation > 0.7)::INTEGER) FROM feature_matches
WHERE rank = 0 AND sae_id = $sae
"""


@dataclass(frozen=True)
class Weights:
    """One model, and where its weights come from."""

    model: str
    kind: str
    """trained, or random."""
    source: str
    """What is loaded."""


def weights_of(model: str, folder: Path) -> Iterator[Weights]:
    """The model as it is, and one of its class and configuration with random weights."""
    yield Weights(model, "trained", model)
    loaded = load_model(model)
    torch.manual_seed(0)
    untrained = type(loaded.hf_model)(loaded.hf_model.config)
    untrained.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    yield Weights(model, "random", str(folder))


def hooks_of(model: LanguageModel) -> tuple[str, str]:
    """The stream after an early and after a late block; neither is the last."""
    early = max(0, model.n_layers // 4 - 1)
    late = max(early + 1, 3 * model.n_layers // 4 - 1)
    return model.resid_post(early), model.resid_post(late)


class Silence:
    """Nobody looks on."""

    def begin(self) -> None:
        pass

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        pass

    def step(self, report: Callable[[], Report]) -> None:
        pass

    def record(self, report: Report) -> None:
        pass


def train(model: LanguageModel, folder: Path) -> tuple[str, ...]:
    """An SAE for each hook on passes over all tokens, mixed anew in each; where they lie."""
    hooks = hooks_of(model)
    seen = read(model, hooks)
    n = len(seen[hooks[0]])
    config = SaeTrainingConfig(
        hooks, d_sae=D_SAE, k=K, n_tokens=STEPS * BATCH, batch_size=BATCH, block_tokens=n
    )
    facts = {
        "model_name": model.source,
        "context_size": N_CTX,
        "prepend_bos": model.bos_id is not None,
    }
    source = KeptSource(lambda _, hook: seen[hook].numpy(), 1, n, hooks, config.seed, facts)
    trained = train_saes(source, config, folder / "checkpoint.safetensors", Silence())
    return tuple(str(one.folder) for one in save_saes(trained, folder, facts, float16=False))


def read(model: LanguageModel, hooks: tuple[str, ...]) -> dict[str, Float[Tensor, "n d_model"]]:
    """Activations at every token of the texts but special and first ones."""
    special = set(special_ids(model.tokenizer))
    found: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    start = [] if model.bos_id is None else [model.bos_id]
    for text in iter_texts(TEXTS):
        ids = model.tokenizer.encode(text.text, add_special_tokens=False)
        room = N_CTX - len(start)
        for at in range(0, len(ids), room):
            row = torch.tensor([[*start, *ids[at : at + room]]])
            _, cache = run_hooks(model, row, torch.ones_like(row), hooks)
            kept = torch.tensor([i > 0 and int(t) not in special for i, t in enumerate(row[0])])
            for hook in hooks:
                found[hook].append(cache[hook][0, kept].float())
    return {hook: torch.cat(rows) for hook, rows in found.items()}


def measure(weights: Weights, folder: Path) -> dict[str, Any]:
    """Every figure of one model."""
    model = load_model(weights.source)
    hooks = hooks_of(model)
    layers = ",".join(str(layer) for layer in _layers(model, hooks))
    saes = train(model, folder / "saes")
    store = folder / "controls.lens"
    config = IngestConfig(
        weights.source, TEXTS, saes, energies=layers, efas=VARIANTS, n_ctx=N_CTX,
        accept_gate=True, run_id="run",
    )  # fmt: skip
    ingest(prepare(store, load(config)), Part(), Progress())
    build_indexes(store, Progress())
    with open_catalog(store) as opened:
        found = {
            "model": _short(weights.model),
            "weights": weights.kind,
            "class": model.model_class,
            "parameters": sum(p.numel() for p in model.hf_model.parameters()),
            "energies": _energies(opened),
            "saes": [_sae(opened, hook) for hook in hooks],
        }
    found["effects"] = [_effects(store, hook) for hook in hooks]
    return found


def _layers(model: LanguageModel, hooks: tuple[str, ...]) -> list[int]:
    return [*(int(hook.split(".")[1]) for hook in hooks), model.n_layers - 1]


def _energies(store: Store) -> dict[int, float]:
    rows = energy_by_layer(store, "run").filter(pl.col("is_all"))
    return dict(zip(rows["layer"].to_list(), rows["mean_energy"].to_list(), strict=True))


def _sae(store: Store, sae: str) -> dict[str, Any]:
    info = next(s for s in store.run("run").info.saes if s.sae_id == sae)
    found: dict[str, Any] = {"sae_id": sae, "fvu": info.fvu, "n_dead": info.n_dead}
    for variant in VARIANTS:
        rows = efas_by_layer(store, "run", variant).filter(sae_id=sae).to_dicts()
        found[variant] = rows[0] if rows else {}
    halves = store.cursor().execute(_HALVES, {"sae": sae}).fetchall()[0]
    found["halves"] = {"n": halves[0], "share": halves[1]}
    best = specialist_matrix(store, "run").filter(sae_id=sae)
    found["specialists"] = {
        "categories": len(best),
        "found": int(best["is_found"].sum()),
        "auroc": best["auroc"].mean(),
    }
    pairs = coactive_pairs(store, "run", sae, k=10)
    same = (pairs["top_category"] == pairs["partner_category"]).sum()
    found["pairs"] = {"n": len(pairs), "same_category": int(same or 0)}
    matches = store.cursor().execute(_MATCHES, {"sae": sae}).fetchall()[0]
    found["matches"] = {"median": matches[0], "above_07": matches[1]}
    return found


def _effects(store: Path, sae: str) -> dict[str, Any]:
    try:
        rows = measure_effects(store, "run", sae, N_FEATURES, N_CONTEXTS, 0, Progress())
    except UsageError as error:
        return {"none": str(error)}
    return {
        f"{energy} {name}": {"n": found.n, "error": found.relative_error[0],
                             "correlation": found.correlation}
        for energy, group, name, found in agreements(rows)
        if group == "all"
    }  # fmt: skip


def report(found: list[dict[str, Any]]) -> str:
    """The page: a row a model, weights and SAE, in one table for each claim."""
    parts = [
        "# The claims beside random weights",
        f"Made by `python -m benchmarks.controls`: a model as it was trained, and the same class "
        "and configuration with the weights the class draws before training. Two SAEs of "
        f"{D_SAE} features for each, trained alike in {STEPS} steps on the bundled texts "
        f"themselves; contexts of at most {N_CTX} tokens; {N_FEATURES} features with an EFAS of "
        f"q < 0.05 and as many others are ablated in up to {N_CONTEXTS} contexts each.",
        _table("EFAS under the lens", found, _lens_row),
        _table("EFAS under other gradients, and the null", found, _other_row),
        _table("Specialists, pairs, matches between the two SAEs", found, _other_claims),
        _table("Relative error of what ablation was foretold to do", found, _effect_row),
    ]
    return "\n\n".join(parts) + "\n"


def _table(title: str, found: list[dict[str, Any]], row: Any) -> str:
    rows = [{**_named(one, i), **row(one, i)} for one in found for i in range(2)]
    lines = [
        "| " + " | ".join(cells) + " |"
        for cells in (list(rows[0]), *(list(r.values()) for r in rows))
    ]
    return "\n".join([f"## {title}\n", lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _named(one: dict[str, Any], i: int) -> dict[str, str]:
    return {
        "model": one["model"],
        "weights": one["weights"],
        "after": "block " + one["saes"][i]["sae_id"].split(".")[1],
    }


def _short(model: str) -> str:
    """Its name, wherever it lies."""
    return Path(model.removeprefix("builtin:")).name


def _lens_row(one: dict[str, Any], i: int) -> dict[str, str]:
    sae, lens = one["saes"][i], one["saes"][i]["lens"]
    layer = sae["sae_id"].split(".")[1]
    halves = sae["halves"]
    return {
        "energy": _number(one["energies"].get(layer)),
        "unexplained": _number(sae["fvu"]),
        "tested": str(lens.get("n_tested", "·")),
        "discoveries": str(lens.get("n_discoveries", "·")),
        "positive": _number(lens.get("share_positive")),
        "mean abs": _number(lens.get("mean_abs_efas")),
        "with ln rate": _number(lens.get("rate_correlation")),
        "selected on half": str(halves["n"]),
        "confirmed on the other": _number(halves["share"]),
    }


def _other_row(one: dict[str, Any], i: int) -> dict[str, str]:
    sae = one["saes"][i]
    return {
        "total: tested": str(sae["total"].get("n_tested", "·")),
        "total: discoveries": str(sae["total"].get("n_discoveries", "·")),
        "drawn labels: tested": str(sae["calibration"].get("n_tested", "·")),
        "drawn labels: discoveries": str(sae["calibration"].get("n_discoveries", "·")),
        "drawn labels: p < 0.05": _number(sae["calibration"].get("share_p05")),
    }


def _other_claims(one: dict[str, Any], i: int) -> dict[str, str]:
    sae = one["saes"][i]
    found, pairs, matches = sae["specialists"], sae["pairs"], sae["matches"]
    return {
        "categories with a specialist": f"{found['found']} of {found['categories']}",
        "mean AUROC of the best": _number(found["auroc"]),
        "closest pairs of one category": f"{pairs['same_category']} of {pairs['n']}",
        "median best match": _number(matches["median"]),
        "matches above 0.7": _number(matches["above_07"]),
    }


def _effect_row(one: dict[str, Any], i: int) -> dict[str, str]:
    effects = one["effects"][i]
    row = {"features": str(effects["lens trapezoid"]["n"]) if "lens trapezoid" in effects else "·"}
    for energy in ("lens", "total"):
        for name in ("trapezoid", "first_order", "gauss_newton"):
            error = effects.get(f"{energy} {name}", {}).get("error")
            row[f"{energy}: {name.replace('_', ' ')}"] = _number(error)
    return row


def _number(value: float | None) -> str:
    return "·" if value is None or value != value else f"{value:.3g}"


def main() -> None:
    """Measure what is named, or write the page from what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for model in asked.models:
        with tempfile.TemporaryDirectory() as name:
            for weights in weights_of(model, Path(name) / "random"):
                sys.stderr.write(f"{weights}\n")
                found = measure(weights, Path(name) / weights.kind)
                path = asked.out / f"{_short(model)}-{weights.kind}.json"
                path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if asked.report:
        files = sorted(asked.out.glob("*.json"), key=lambda path: path.name)
        REPORT.write_text(report([json.loads(path.read_text()) for path in files]))


if __name__ == "__main__":
    main()
