"""What gains of features do to models at home, far from it, and with random weights.

    python -m benchmarks.repair OUT home | far | random
    python -m benchmarks.repair OUT NAME --store STORE [--run RUN] --sae SAE
    python -m benchmarks.repair OUT --report

`home` is the bundled MesaNet on the bundled texts; `far` the same with each text written backwards;
`random` the same class with the weights it draws, and an SAE trained here on the bundled texts.
NAME is any other store: of SmolLM2, for one. The rows of `repairs` of each are kept in OUT, for
--top 20 and 100 features; --report writes docs/findings/repair.md from those that are there.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.controls import TEXTS, train, weights_of
from energylens.db.store import open_store
from energylens.ingest.on_request.repair import NOTHING, TOGETHER, repair
from energylens.ingest.on_request.repair_split import CONDITIONS, GLOBAL, Wish
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.ingest.texts import iter_texts
from energylens.lens.models import load_model
from energylens.queries.names import find_run, find_sae, stored_runs

MODEL = "builtin:mesanet"
SAE = "blocks.2.hook_resid_post"
REPORT = Path(__file__).parents[1] / "docs/findings/repair.md"
WORDS = {
    "home": "the bundled MesaNet on the bundled texts",
    "far": "the bundled MesaNet on the bundled texts written backwards",
    "random": "a MesaNet with random weights on the bundled texts",
}
_SAID = """\
# Features that repair a model

Made by `python -m benchmarks.repair`, which asks what `energylens repair` asks; what is made of
it stands in [findings.md](../findings.md). An SAE's features are turned up or down: at every
token but BOS

    h' = h + sum over f of a_f z_f d_f

with z the codes of the pass, d_f what one unit of feature f writes, a_f its gain: the SAE's error
term is kept, 0 changes nothing and -1 ablates. The slope of the mean energy by a gain is minus
the mean of z g, which is the feature's attribution. Everything is learned on one half of the
texts and judged on the other; figures are changes of the mean energy of the judging tokens, nats
a token, ± half a 95 % interval by text, **bold** where it leaves out 0. Negative is better.
Splits come in pairs that learn and judge the other way round, so every text judges; their values
are averaged, and so are what their intervals reach, which makes them too wide rather than too
narrow.

* **by attribution, efas, efas-lens, frequency, output-score, random**: the features that come
  first by the size of the text-clustered t of their attribution, of that of EFAS (of the same
  gradient, or of the lens energy of the token), by how often they are active, by their output
  score (Arad, Mueller and Belinkov, 2025), or drawn. Each is turned by 0.3, the way the sign of
  its own attribution says: only the choice differs.
* **reversed**: the features of `by attribution` turned the other way; **random signs**: each
  either way; **matched**: the gains given to as many other features, each most like its own in
  rate and in power written; **random directions**: each writes along a random direction, the
  whole as long as the repair at every token.
* **global gain**: one gain for all features, as large as serves the learning half best (0 where
  none serves); **global and chosen**: on top of it those of `by attribution`.
* **bias**: one vector added at the same place, down the mean gradient, as long as serves best;
  **temperature**: of the output.
* **fine-tuned**: the gains of the same features by descent; **tuned lens**: an affine map before
  the read-out, by descent; **random weights**: as many numbers drawn from the model's weights, by
  descent. Descent stops where a quarter of the learning texts, kept apart, is served best.
"""


@dataclass(frozen=True)
class Stored:
    """A run and an SAE that are repaired."""

    store: Path
    run: str
    sae: str
    trained_on: str | None = None
    category: str | None = None


def made(name: str, folder: Path) -> Stored:
    """The store of one of WORDS."""
    model, texts, sae, trained_on = MODEL, TEXTS, f"{MODEL}/{SAE}", None
    if name == "far":
        texts = str(folder / "texts.jsonl")
        lines = (
            json.dumps({"text": t.text[::-1], "category": t.category}) for t in iter_texts(TEXTS)
        )
        Path(texts).write_text("\n".join(lines), encoding="utf-8")
    if name == "random":
        untrained = next(w for w in weights_of(MODEL, folder / "model") if w.kind == "random")
        model, trained_on = untrained.source, TEXTS
        sae = train(load_model(model), folder / "saes")[-1]
    config = IngestConfig(model, texts, (sae,), accept_gate=True, run_id="run")
    ingest(prepare(folder / "x.lens", load(config)), Part(), Progress())
    return Stored(folder / "x.lens", "run", _only_sae(folder / "x.lens"), trained_on)


def _only_sae(store: Path) -> str:
    with open_store(store) as opened:
        return opened.run("run").info.saes[0].sae_id


def measure(
    name: str, stored: Stored, tops: list[int], splits: int, texts: int, tunes: bool
) -> dict[str, Any]:
    """Every row of `repairs`, for each number of features; what is learned by descent is tried with
    the largest alone."""
    with open_store(stored.store) as opened:
        info = opened.run(stored.run).info
        sae = find_sae(info, stored.sae)
    rows = []
    for top in tops:
        wish = Wish(top, "attribution", 0.3, splits, 0, tunes=tunes and top == max(tops))
        found = repair(
            *(stored.store, stored.run, sae.sae_id, wish, texts, Progress()),
            stored.trained_on,
            stored.category,
        )
        rows += found.rows.drop("run_id", "sae_id").with_columns(top=top).to_dicts()
    return {
        "name": name,
        "words": WORDS.get(name, name),
        "class": info.model_class,
        "sae": sae.sae_id,
        "d_sae": sae.d_sae,
        "fvu": sae.fvu,
        "rows": rows,
    }


def report(out: Path) -> Iterator[str]:
    """The page, part by part."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    order = list(WORDS)
    runs.sort(key=lambda run: order.index(run["name"]) if run["name"] in order else len(order))
    yield _SAID.strip()
    for run in runs:
        rows = pl.DataFrame(run["rows"], infer_schema_length=None)
        yield from _figures(run, rows)


def _figures(run: dict[str, Any], rows: pl.DataFrame) -> Iterator[str]:
    first = rows.filter(split=0).row(0, named=True)
    n_texts = first["n_learned"] + first["n_judged"]
    together = rows.filter(split=TOGETHER)
    clean = together.filter(against=NOTHING).select(pl.col("energy") - pl.col("change")).item(0, 0)
    yield f"\n## {run['words'][0].upper()}{run['words'][1:]}\n"
    yield (
        f"SAE {run['sae']} of {run['d_sae']:,} features (unexplained {run['fvu']:.3f}); "
        f"{n_texts} texts, {rows['split'].max() + 1} splits; {clean:.3f} nats a token; "  # pyright: ignore
        f"{_contaminated(first['contaminated'], n_texts)}.\n"
    )
    tops = sorted(set(rows["top"]))
    yield "| condition | " + " | ".join(_heads(tops)) + " |"
    yield "|---" * (1 + 2 * len(tops)) + "|"
    for name in CONDITIONS:
        cells = []
        for top in tops:
            of = together.filter(condition=name, top=top)
            cells += [_cell(of, NOTHING), _cell(of, GLOBAL)]
        if any(cells):
            yield f"| {name} | " + " | ".join(cells) + " |"
    for than in ("by attribution", "by efas"):
        if not together.filter(against=than).is_empty():
            yield from _choices(together, than, tops)


def _choices(together: pl.DataFrame, than: str, tops: list[int]) -> Iterator[str]:
    """Choices against one of them."""
    yield f"\nOther choices less those {than}, of the same number of features:\n"
    yield "| choice | " + " | ".join(f"{top} features" for top in tops) + " |"
    yield "|---" * (1 + len(tops)) + "|"
    for name in [c for c in CONDITIONS if c.startswith("by ") and c != than]:
        cells = [_cell(together.filter(condition=name, top=top), than) for top in tops]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _heads(tops: list[int]) -> Iterator[str]:
    for top in tops:
        yield f"{top} features"
        yield f"{top}, beyond the {GLOBAL}"


def _contaminated(n: int | None, n_texts: int) -> str:
    if n is None:
        return "what the SAE was trained on is not recorded"
    return f"**contaminated**: the SAE was trained on {n} of the texts" if n else "not contaminated"


def _cell(rows: pl.DataFrame, against: str) -> str:
    found = rows.filter(against=against).to_dicts()
    if not found:
        return ""
    value, low, high = (found[0][f"change{end}"] for end in ("", "_low", "_high"))
    said = f"{value:+.4f}"
    if low is not None:
        said += f" ± {(high - low) / 2:.4f}"
    return f"**{said}**" if low is not None and (high < 0 or low > 0) else said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--sae")
    parser.add_argument("--trained-on")
    parser.add_argument("--category")
    parser.add_argument("--top", default="20,100")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--tuned", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    if asked.name:
        tops = [int(part) for part in asked.top.split(",")]
        with tempfile.TemporaryDirectory() as folder:
            if asked.store:
                run = find_run(stored_runs(asked.store), asked.run).run_id
                stored = Stored(asked.store, run, asked.sae, asked.trained_on, asked.category)
            else:
                stored = made(asked.name, Path(folder))
            found = measure(asked.name, stored, tops, asked.splits, asked.texts, asked.tuned)
        asked.out.mkdir(parents=True, exist_ok=True)
        path = asked.out / f"{asked.name}.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if asked.report:
        REPORT.write_text("\n".join(report(asked.out)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
