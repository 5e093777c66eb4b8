"""How soon a second process of an ingest has its first shard's texts, on a corpus of many tokens.

    python -m benchmarks.plan [--millions 100] [--folder FOLDER]

The bundled texts are written over and over. A first process counts them and writes the run's
record; others, which find both in the store, are timed from the moment that the model is loaded
until the first text of a shard is at hand: of the second shard, and of the last. Writes
`benchmarks/results/plan.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.plan_file import planned
from energylens.ingest.reading import Reading
from energylens.ingest.texts import iter_texts

MODEL, SAES = "builtin:llama", ("builtin:llama/blocks.2.hook_resid_post",)
BUNDLED_TOKENS = 12_276
"""Of the bundled texts, as the bundled model reads them, BOS counted."""
OUT = Path(__file__).parent / "results/plan.json"


def write(path: Path, millions: float) -> None:
    """The bundled texts, as often as so many tokens take."""
    once = "".join(
        json.dumps({"text": text.text, "category": text.category}) + "\n"
        for text in iter_texts("builtin:categories")
    )
    with path.open("w", encoding="utf-8") as out:
        for _ in range(-(-round(millions * 1e6) // BUNDLED_TOKENS)):
            out.write(once)


def timed(folder: Path, shard: int | None) -> dict[str, float]:
    """Seconds of a process from when its model is loaded; of the `shard`, counted from behind where
    it is below 0, the first text is awaited."""
    config = IngestConfig(MODEL, str(folder / "texts.jsonl"), SAES, run_id="run")
    store = folder / "whole.lens"
    loaded = load(config, partial(planned, store=store))
    began = time.perf_counter()
    prepared = prepare(store, loaded)
    record = time.perf_counter()
    plan = prepared.plan
    if shard is not None:
        next(Reading(prepared.corpus, plan).shard(shard % plan.n_shards))
    text = time.perf_counter()
    return {
        "tokens": plan.n_tokens, "texts": plan.n_texts, "shards": plan.n_shards,
        "plan": loaded.plan_seconds, "record": record - began, "first_text": text - record,
        "seconds": loaded.plan_seconds + text - began,
    }  # fmt: skip


def of_its_own(folder: Path, shard: int | None) -> dict[str, float]:
    """The same in a process that knows nothing of the others."""
    command = [sys.executable, "-m", "benchmarks.plan", "--folder", str(folder), "--step"]
    told = subprocess.run([*command, str(shard)], check=True, stdout=subprocess.PIPE)
    return json.loads(told.stdout)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--millions", type=float, default=100)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--step", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.step:
        shard = None if given.step == "None" else int(given.step)
        print(json.dumps(timed(given.folder, shard)))  # noqa: T201
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write(folder / "texts.jsonl", given.millions)
        steps = {"first process": None, "second shard": 1, "last shard": -1}
        found = {step: of_its_own(folder, shard) for step, shard in steps.items()}
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
