"""What recomputation says of the bundled model: effects of ablation, edits with controls, steering.

Writes `docs/findings/recomputation.md`, which docs/findings.md reads in plain words.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from energylens.cli.output import print_frame
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.attribute import attribute
from energylens.ingest.on_request.causality import agreements, measure_effects
from energylens.ingest.on_request.intervene import intervene
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.on_request.steer import steer
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import Part, ingest
from energylens.protocol import (
    AttributionRequest,
    EditRequest,
    InterventionRequest,
    PromptRequest,
    SteeringRequest,
)
from energylens.queries.catalog import open_catalog
from energylens.queries.display import visible
from energylens.queries.writing import Format

MODEL = "builtin:llama"
SAE = "blocks.2.hook_resid_post"
PROMPT = "I think that"
STEERED = ("python", "math", "formal")
STRENGTHS = (0.0, 1.0, 2.0)
N_TOKENS = 40
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
    """Ten sampled features and ten that are active as often."""
    rows = measure_effects(path, run_id, SAE, 10, 32, 0, Progress())
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
    yield "## The same, as agreement (95 % intervals over features)\n"
    yield table(pl.DataFrame(summary))


def latency(reopened: Reopened) -> Iterator[str]:
    """Warm answers to a sentence."""
    asked = PromptRequest("The energy of a token is its surprise.")
    prompt(reopened, asked)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        prompt(reopened, asked)
        seconds.append(time.perf_counter() - began)
    yield (
        f"## A warm prompt of one sentence\n\nmedian {statistics.median(seconds):.3f} s, "
        f"slowest of 20 {max(seconds):.3f} s\n"
    )


def edits(reopened: Reopened, feature_id: int) -> Iterator[str]:
    """A python text without its specialist, beside controls."""
    text = "import os\n\n\ndef main() -> int:\n    for name in os.listdir():\n        print(name)\n"
    found = intervene(
        reopened, InterventionRequest(text, EditRequest(SAE, (feature_id,)), keep=False)
    )
    yield f"## Ablating feature {feature_id}, the python specialist, in six lines of python\n"
    yield table(
        pl.DataFrame(
            {
                "condition": [c.name for c in found.conditions],
                "features": [", ".join(map(str, c.feature_ids)) for c in found.conditions],
                "energy_change": [round(c.energy_change, 4) for c in found.conditions],
                "mean_kl": [round(sum(c.kl) / len(c.kl), 4) for c in found.conditions],
            }
        )
    )


def attributions(reopened: Reopened) -> Iterator[str]:
    """How the three measures agree, and how many features a prediction needs."""
    asked = AttributionRequest("def add(a, b):\n    return a", SAE, position=5, top=20)
    found = attribute(reopened, asked, Progress())
    yield f"## Attribution: {visible(found.metric)}\n"
    yield table(
        pl.DataFrame({"pair": list(found.agreement), "spearman": list(found.agreement.values())})
    )
    yield table(
        pl.DataFrame(
            {
                "n_features": found.curve.n_features,
                "faithfulness": found.curve.faithfulness,
                "completeness": found.curve.completeness,
            }
        )
    )


def steering(reopened: Reopened, chosen: dict[str, int]) -> Iterator[str]:
    """The same prompt, steered by three specialists."""
    yield f"## Steering {PROMPT!r} by the best specialist of a category\n"
    for category, feature_id in chosen.items():
        edit = EditRequest(SAE, (feature_id,), "add", unit="max")
        found = steer(reopened, SteeringRequest(PROMPT, edit, STRENGTHS, N_TOKENS), Progress())
        for one in found.texts:
            yield (
                f"* {category}, feature {feature_id}, {one.strength:g} of its maximum "
                f"(activation {one.activation:.3f}, perplexity {one.perplexity:.1f}, distinct "
                f"{one.distinct:.2f}): `{visible(one.text).replace('`', chr(39))}`"
            )
        yield ""


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
    """A value with its interval; a dot where there is none."""
    if values[0] != values[0]:
        return "·"
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


if __name__ == "__main__":
    main()
