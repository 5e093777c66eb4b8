"""What `--estimate` forecasts beside what an ingest and its index then take, at three sizes.

    python -m benchmarks.estimate [--texts TEXTS]

The forecast is made with processor time in place of the wall clock, and so is the measurement, so
that both hold on a machine that others use too. Without --texts the standard library's own source
is read. Writes `benchmarks/results/estimate.json`.
"""

import argparse
import json
import random
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from energylens.ingest.corpus import Corpus, CorpusPlan
from energylens.ingest.estimate import Estimate, estimate
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.ingest.texts import Text, iter_texts

MODEL, SAES = "builtin:llama", ("builtin:llama/blocks.2.hook_resid_post",)
SIZES = (100_000, 200_000, 400_000)
"""Characters of text."""
OUT = Path(__file__).parent / "results/estimate.json"


def corpus(texts: str | None) -> list[Text]:
    """All texts in an order of their own; every source file of the standard library by default."""
    if texts is None:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        found = [Text(file.read_text("utf-8", "replace"), "python", file.name) for file in files]
    else:
        found = list(iter_texts(texts))
    random.Random(0).shuffle(found)
    return found


def write(texts: list[Text], n_chars: int, path: Path) -> None:
    """The first texts of together so many characters."""
    written = 0
    with path.open("w", encoding="utf-8") as out:
        for text in texts:
            if written >= n_chars:
                break
            written += len(text.text)
            out.write(json.dumps({"text": text.text, "category": text.category}) + "\n")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work gives, and the processor seconds it takes."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def both(config: IngestConfig, store: Path) -> tuple[Estimate, dict[str, float]]:
    """The forecast, and then what it is a forecast of."""
    spent: list[float] = []

    def plan_of(corpus: Corpus) -> CorpusPlan:
        plan, seconds = timed(corpus.plan)
        spent.append(seconds)
        return plan

    forecast = replace(load(config, plan_of), plan_seconds=spent[0])
    found = estimate(forecast, time.process_time)
    loaded = load(config, plan_of)
    prepared, gate = timed(lambda: prepare(store, loaded))
    _, shards = timed(lambda: ingest(prepared, Part(), Progress()))
    _, index = timed(lambda: build_indexes(store, Progress()))
    n_bytes = sum(path.stat().st_size for path in store.rglob("*.parquet"))
    measured = {
        "plan": spent[1], "gate": gate, "shards": shards, "index": index,
        "seconds": spent[1] + gate + shards + index, "bytes": n_bytes,
    }  # fmt: skip
    return found, measured


def main() -> None:
    """Forecast and measure, print a line a size, and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts")
    texts = corpus(parser.parse_args().texts)
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "texts.jsonl"
            write(texts, size, path)
            config = IngestConfig(MODEL, str(path), SAES, run_id="run")
            found, measured = both(config, Path(name) / "whole.lens")
        rows.append(
            {
                "tokens": found.n_tokens,
                "texts": found.n_texts,
                "forecast": {
                    "plan": found.plan_seconds, "gate": found.gate_seconds,
                    "shards": found.shard_seconds, "index": found.index_seconds,
                    "seconds": found.seconds, "bytes": found.bytes_total,
                },
                "measured": measured,
                "seconds_ratio": found.seconds / measured["seconds"],
                "bytes_ratio": found.bytes_total / measured["bytes"],
            }
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)  # noqa: T201
        OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
