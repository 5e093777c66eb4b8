"""What token patterns of a GPT-2-sized SAE cost beside the ingest that they follow.

    python -m benchmarks.wide_patterns FOLDER [--out FILE]

A GPT-2 of 124 million random weights and a top-k SAE of 24,576 features (k 32) at block 6 read the
bundled texts; then the index is made. CPU seconds of this process, all threads together, so that
the share holds on any machine; both are of one run.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

import energylens
from energylens.builtin import builtin_path
from energylens.ingest.index import statistics
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest

HOOK = "blocks.6.hook_resid_post"
D_SAE, K = 24_576, 32


class Clock:
    """CPU seconds spent in some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added up."""

        @wraps(function)
        def timed(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.process_time() - began

        return timed


def make_inputs(folder: Path) -> None:
    """The model, with the bundled tokenizer, and the SAE."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(builtin_path("models", "builtin:llama"))
    tokenizer.save_pretrained(folder / "model")
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0))
    model.save_pretrained(folder / "model")
    known = SAEMetadata(hook_name=HOOK)
    sae: SAE[Any] = TopKSAE(TopKSAEConfig(d_in=768, d_sae=D_SAE, k=K, metadata=known))
    with torch.no_grad():  # about the mean, so that features are not the same for every token
        some = torch.randint(4096, (4, 128))
        seen = model(some, output_hidden_states=True).hidden_states[7].flatten(0, 1)
        sae.b_dec.copy_(seen.mean(0))
    sae.save_model(folder / "sae")


def measure(folder: Path) -> dict[str, Any]:
    """CPU seconds of the ingest, of the index and of patterns in it."""
    store = folder / "wide.lens"
    asked = IngestConfig(
        model=str(folder / "model"), texts="builtin:categories", saes=(str(folder / "sae"),),
        accept_gate=True,
    )  # fmt: skip
    loaded = load(asked)
    began = time.process_time()
    ingest(prepare(store, loaded), Part(), Progress())
    ingested = time.process_time()
    clock = Clock()
    statistics.prepare = clock.of(statistics.prepare)
    for name in ("add_part", "write"):
        setattr(statistics.Patterns, name, clock.of(getattr(statistics.Patterns, name)))
    build_indexes(store, Progress())
    indexed = time.process_time()
    with energylens.open(store) as opened:
        (counts,) = opened.sql(
            "SELECT (SELECT count(*) FROM tokens) AS n_tokens, (SELECT count(*) FROM codes) AS "
            "n_codes, count(*) AS n_features, count(p) AS n_tested FROM feature_patterns"
        ).to_dicts()
    return {
        **counts,
        "ingest_cpu_seconds": round(ingested - began, 1),
        "index_cpu_seconds": round(indexed - ingested, 1),
        "patterns_cpu_seconds": round(clock.seconds, 1),
        "patterns_of_ingest": round(clock.seconds / (ingested - began), 4),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/wide_patterns.json"))
    asked = parser.parse_args()
    shutil.rmtree(asked.folder, ignore_errors=True)
    make_inputs(asked.folder)
    told = measure(asked.folder)
    asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
