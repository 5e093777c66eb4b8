"""What recomputation says of the bundled model: effects of ablation, edits with controls, steering.

Everything is repeated over features, texts or seeds, and has a 95 % interval over them. Writes
`docs/findings/recomputation.md`, which docs/findings.md reads in plain words.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import binom

from energylens.cli.output import print_frame
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.attribute import attribute
from energylens.ingest.on_request.causality import agreements, measure_effects
from energylens.ingest.on_request.intervene import intervene
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.on_request.steer import steer
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.ingest.texts import iter_texts
from energylens.protocol import (
    AttributionRequest,
    AttributionResult,
    EditRequest,
    InterventionRequest,
    PromptRequest,
    SteeredText,
    SteeringRequest,
)
from energylens.queries.catalog import open_catalog
from energylens.queries.display import visible
from energylens.queries.writing import Format
from energylens.stats.clusters import MIN_ALIKE, clustered_mean

MODEL = "builtin:llama"
SAE = "blocks.2.hook_resid_post"
PROMPT = "I think that"
STEERED = ("python", "math", "formal")
STRENGTHS = (0.0, 1.0, 2.0)
N_TOKENS = 40
N_SEEDS = 20
N_FEATURES, N_CONTEXTS = 30, 16
N_CHARS = 300
"""Of each text that is edited or explained: fewer tokens than a context has."""
N_TEXTS = 5
"""Of each category whose last prediction is explained."""
N_PROMPTS = 100
SIZES = (1, 2, 5, 10, 20, 50, 100)
"""Numbers of features whose faithfulness is told."""
_BEST = """
SELECT s.feature_id FROM specialists AS s
WHERE s.sae_id = $sae AND s.category = $category
ORDER BY s.score DESC, s.feature_id LIMIT 1
"""


def main() -> None:
    """Make a store, compute, and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundled.lens"
        config = IngestConfig(model=MODEL, texts="builtin:categories", saes=(MODEL,))
        prepared = prepare(path, load(config))
        ingest(prepared, Part(), Progress())
        build_indexes(path, Progress())
        text = "\n".join(report(path, prepared.run.run_id))
    target = Path("docs/findings/recomputation.md")
    target.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {target}")  # noqa: T201


def report(path: Path, run_id: str) -> Iterator[str]:
    """The file, part by part."""
    yield f"# Recomputation: {MODEL}, {SAE}\n\nMade by `make findings`.\n"
    yield from effects(path, run_id)
    reopened = reopen(path, run_id)
    chosen = {category: best(path, category) for category in STEERED}
    yield from latency(reopened)
    yield from edits(reopened, chosen["python"])
    yield from attributions(reopened)
    yield from steering(reopened, chosen)


def effects(path: Path, run_id: str) -> Iterator[str]:
    """Sampled features and as many that are active as often."""
    rows = measure_effects(path, run_id, SAE, N_FEATURES, N_CONTEXTS, 0, Progress())
    yield "## Ablating features over the corpus: change of energy, nats, predicted and measured\n"
    yield table(rows.drop("run_id", "sae_id"))
    summary = [
        {
            "energy": energy, "features": group, "prediction": name, "n": found.n,
            "correlation": found.correlation, "slope": interval(found.slope),
            "same_sign": interval(found.sign_agreement),
            "relative_error": interval(found.relative_error),
        }
        for energy, group, name, found in agreements(rows)
    ]  # fmt: skip
    yield "## The same, as agreement\n"
    yield "95 % intervals over features; a correlation has none that holds its level.\n"
    yield table(pl.DataFrame(summary))


def latency(reopened: Reopened) -> Iterator[str]:
    """Warm answers to a sentence."""
    asked = PromptRequest("The energy of a token is its surprise.")
    prompt(reopened, asked)
    seconds = []
    for _ in range(N_PROMPTS):
        began = time.perf_counter()
        prompt(reopened, asked)
        seconds.append(time.perf_counter() - began)
    yield (
        f"## A warm prompt of one sentence\n\nmedian of {N_PROMPTS}: {median(seconds)} s, slowest "
        f"{max(seconds):.3f} s\n"
    )


def edits(reopened: Reopened, feature_id: int) -> Iterator[str]:
    """Every python text without its specialist, beside controls."""
    texts = beginnings("python")
    change: dict[str, list[float]] = {}
    moved: dict[str, list[float]] = {}
    for seed, text in enumerate(texts):
        edit = EditRequest(SAE, (feature_id,))
        found = intervene(reopened, InterventionRequest(text, edit, seed, keep=False))
        for one in found.conditions:
            change.setdefault(one.name, []).append(one.energy_change)
            moved.setdefault(one.name, []).append(float(np.mean(one.kl)))
    less = {name: np.subtract(change["edited"], values) for name, values in change.items()}
    yield f"## Ablating feature {feature_id}, the python specialist, in {len(texts)} python texts\n"
    yield "The first characters of each, the controls drawn anew for each; means over texts.\n"
    yield table(
        pl.DataFrame(
            {
                "condition": list(change),
                "energy_change": [mean(values) for values in change.values()],
                "edited less this": [mean(values) for values in less.values()],
                "mean_kl": [mean(values) for values in moved.values()],
            }
        )
    )


def attributions(reopened: Reopened) -> Iterator[str]:
    """How the three measures agree, and how many features a prediction needs."""
    texts = [text for category in categories() for text in beginnings(category)[:N_TEXTS]]
    found = [attribute(reopened, _last_prediction(text), Progress()) for text in texts]
    yield f"## Attribution: the logit of the last token but one's next, in {len(texts)} texts\n"
    yield "Less the mean logit; the twenty features with the largest gradient are ablated.\n"
    pairs = list(found[0].agreement)
    agreed = {pair: [value for one in found if (value := one.agreement[pair])] for pair in pairs}
    yield table(
        pl.DataFrame(
            {
                "pair": pairs,
                "texts": [len(values) for values in agreed.values()],
                "spearman": [mean(values) for values in agreed.values()],
            }
        )
    )
    yield table(pl.DataFrame([_at_size(found, n) for n in SIZES]))


def _last_prediction(text: str) -> AttributionRequest:
    return AttributionRequest(text, SAE, position=-2, top=20)


def _at_size(found: Sequence[AttributionResult], n: int) -> dict[str, object]:
    """What n features explain of the predictions that more are active at."""
    at = [(one.curve, one.curve.n_features.index(n)) for one in found
          if n in one.curve.n_features]  # fmt: skip
    faithful = [curve.faithfulness[i] for curve, i in at]
    complete = [curve.completeness[i] for curve, i in at]
    return {
        "n_features": n, "texts": len(at), "faithfulness": median(faithful),
        "completeness": median(complete),
    }  # fmt: skip


def steering(reopened: Reopened, chosen: dict[str, int]) -> Iterator[str]:
    """The same prompt, steered by three specialists; the text of the first seed is shown."""
    yield f"## Steering {PROMPT!r} by the best specialist of a category, {N_SEEDS} seeds\n"
    shown, rows = [], []
    for category, feature_id in chosen.items():
        edit = EditRequest(SAE, (feature_id,), "add", unit="max")
        by_strength: dict[float, list[SteeredText]] = {}
        for seed in range(N_SEEDS):
            asked = SteeringRequest(PROMPT, edit, STRENGTHS, N_TOKENS, seed=seed)
            for one in steer(reopened, asked, Progress()).texts:
                by_strength.setdefault(one.strength, []).append(one)
        for strength, texts in by_strength.items():
            words = visible(texts[0].text).replace("`", "'")
            shown.append(f"* {category}, {strength:g} of its maximum: `{words}`")
            rows.append(
                {
                    "category": category, "feature": feature_id, "of its maximum": strength,
                    "activation": mean([one.activation for one in texts]),
                    "ln perplexity": mean([float(np.log(one.perplexity)) for one in texts]),
                    "distinct": mean([one.distinct for one in texts]),
                }
            )  # fmt: skip
    yield table(pl.DataFrame(rows))
    yield "The text of the first seed:\n"
    yield from shown


def categories() -> list[str]:
    """The kinds of bundled texts."""
    return sorted({text.category for text in iter_texts("builtin:categories") if text.category})


def beginnings(category: str) -> list[str]:
    """The first characters of every bundled text of a category."""
    return [
        text.text[:N_CHARS]
        for text in iter_texts("builtin:categories")
        if text.category == category
    ]


def mean(values: Sequence[float] | np.ndarray) -> str:
    """The mean of values that are independent, with its interval."""
    found = clustered_mean(np.asarray(values, dtype=float), np.arange(len(values)))
    return interval((found.value, found.low, found.high))


def median(values: Sequence[float]) -> str:
    """The median of values that are independent, and the two of them between which the true one
    lies 95 times in 100, whatever their distribution."""
    ordered, n = sorted(values), len(values)
    below = int(binom.ppf(0.025, n, 0.5))
    found = float(np.median(ordered))
    if n < MIN_ALIKE:
        return interval((found, np.nan, np.nan))
    return interval((found, ordered[below - 1], ordered[n - below]))


def best(path: Path, category: str) -> int:
    """The best specialist of a category."""
    with open_catalog(path) as store:
        names = {"sae": SAE, "category": category}
        return int(store.cursor().execute(_BEST, names).fetchall()[0][0])


def table(rows: pl.DataFrame) -> str:
    """A frame in Markdown."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        print_frame(rows, Format.markdown)
    return shown.getvalue()


def interval(values: tuple[float, float, float]) -> str:
    """A value with its interval, or without where there is none; a dot where there is neither."""
    if values[0] != values[0]:
        return "·"
    if values[1] != values[1]:
        return f"{values[0]:.3f}"
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


if __name__ == "__main__":
    main()
