"""Ingest against its parts: bare forward, SAE encode and lens products, in one process.

A GPT-2-small shape with random weights (12 layers, d_model 768, vocabulary 50,257) and a
24,576-feature SAE at L0 60 read 8,192 tokens. The parts run on the same batches; ratios count,
seconds depend on the machine. What EFAS adds (g at every code, its sums, and in the index the
cluster-robust t, 10,000 sign flips and BH) is timed apart, lens gradients not counted. Writes
`benchmarks/results/ingest.json`.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from energylens.ingest.estimate import peak_memory
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.index import build
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, Prepared, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.ingest.texts import iter_texts
from energylens.lens.batching import batches, pad
from energylens.lens.models import run_hooks
from energylens.training.corpus import train_tokenizer

N_TOKENS, N_CTX, D_SAE, L0 = 8_192, 128, 24_576, 60
HOOK = "blocks.8.hook_resid_pre"
ROUNDS = 2


def make_inputs(folder: Path) -> IngestConfig:
    """Model, SAE and texts of the benchmark."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0))
    texts = [text.text for text in iter_texts("builtin:categories")]
    model.save_pretrained(folder / "model")
    train_tokenizer(texts, 4096).save_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    sae = TopKSAE(
        TopKSAEConfig(
            d_in=768,
            d_sae=D_SAE,
            k=L0,
            metadata=SAEMetadata(hook_name=HOOK, prepend_bos=True, context_size=N_CTX),
        )
    )
    with torch.no_grad():
        sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(D_SAE, 768), dim=1))
        sae.W_enc.copy_(sae.W_dec.T)
    sae.save_model(folder / "sae")
    ids = [i for text in texts * 3 for i in tokenizer.encode(text, add_special_tokens=False)]
    pieces = N_TOKENS // N_CTX
    room = N_CTX - 1
    with (folder / "texts.jsonl").open("w") as out:
        for piece in range(pieces):
            text = tokenizer.decode(ids[piece * room : (piece + 1) * room])
            out.write(json.dumps({"text": text}) + "\n")
    return IngestConfig(
        model=str(folder / "model"),
        texts=str(folder / "texts.jsonl"),
        saes=(str(folder / "sae"),),
        n_ctx=N_CTX,
        accept_gate=True,
    )


def time_parts(prepared: Prepared) -> dict[str, float]:
    """Seconds of each part on the ingest's own batches."""
    instruments, corpus, plan = prepared.instruments, prepared.corpus, prepared.plan
    model, (sae,) = instruments.model, instruments.saes
    contexts = [
        c
        for text in corpus.texts(lambda _: True)
        for c in corpus.contexts(text, plan.first_of(text))
    ]
    layers = [model.resid_post(layer) for layer in range(-1, model.n_layers)]
    seconds = {"forward": 0.0, "encode": 0.0, "lens": 0.0}
    for batch in batches([len(c.ids) for c in contexts], instruments.batch_tokens):
        ids, mask = pad([contexts[i].ids for i in batch])
        began = time.perf_counter()
        with torch.no_grad():
            model.hf_model(ids, attention_mask=mask.long())
        seconds["forward"] += time.perf_counter() - began
        _, cache = run_hooks(model, ids, mask.long(), [HOOK, *layers])
        with torch.no_grad():
            began = time.perf_counter()
            sae.module.encode(cache[HOOK][mask])
            seconds["encode"] += time.perf_counter() - began
            began = time.perf_counter()
            for name in layers:
                h = cache[name][mask]
                for start in range(0, len(h), 333):
                    normed = model.hf_model.transformer.ln_f(h[start : start + 333])
                    model.hf_model.lm_head(normed).log_softmax(-1)
            seconds["lens"] += time.perf_counter() - began
    return seconds


class Stopwatch:
    """Adds up the seconds of some functions while they are replaced by timed ones."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, watched; what it yields is made before it returns."""

        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            found = work(*args, **kwargs)
            if isinstance(found, Iterator):
                found = list(found)
            self.seconds += time.perf_counter() - began
            return found

        return run


def watch_efas() -> tuple[Stopwatch, Stopwatch]:
    """Watches on what EFAS costs an ingest, beside the lens gradient, and an index."""
    at_ingest, at_index = Stopwatch(), Stopwatch()
    for name in ("block", "codes", "rows"):
        setattr(GradientTally, name, at_ingest.timed(getattr(GradientTally, name)))
    build.write_efas = at_index.timed(build.write_efas)
    return at_ingest, at_index


def main() -> None:
    at_ingest, at_index = watch_efas()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_inputs(folder)
        loaded = load(config)
        for number in range(ROUNDS):
            store = folder / f"{number}.lens"
            prepared = prepare(store, loaded)
            began = time.perf_counter()
            n_tokens = ingest(prepared, Part(), Progress())
            whole = time.perf_counter() - began
            parts = time_parts(prepared)
            memory = peak_memory()
            began = time.perf_counter()
            build_indexes(store, Progress())
            index = time.perf_counter() - began
            efas = at_ingest.seconds + at_index.seconds
            results.append(
                {
                    "tokens": n_tokens,
                    "ingest_s": whole,
                    **{f"{part}_s": s for part, s in parts.items()},
                    "ratio": whole / sum(parts.values()),
                    "index_s": index,
                    "efas_at_ingest_s": at_ingest.seconds,
                    "efas_at_index_s": at_index.seconds,
                    "efas_share": efas / (whole - at_ingest.seconds),
                    "peak_memory_gb": memory / 1e9,
                }
            )
            at_ingest.seconds = at_index.seconds = 0.0
            print(json.dumps(results[-1]), flush=True)  # noqa: T201
    best = min(results, key=lambda r: r["ratio"])
    middle = sorted(r["ratio"] for r in results)[len(results) // 2]
    out = Path(__file__).parent / "results/ingest.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"median_ratio": middle, "best": best, "rounds": results}, indent=1))
    share = sorted(r["efas_share"] for r in results)[len(results) // 2]
    print(  # noqa: T201
        f"ingest takes {middle:.2f} times its parts; EFAS with its tests adds {share:.1%} "
        f"(median of {ROUNDS})"
    )


if __name__ == "__main__":
    main()
