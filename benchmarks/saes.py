"""Architectures of SAEs side by side, trained here in the same short way on one hook of a model.

    nice python -m benchmarks.saes [MODEL ...] [--texts TEXTS] [--heldout TEXTS]

Each SAE is a row of benchmarks/results/saes.json, which is written as soon as it is measured: the
same command goes on where it was stopped. Then docs/findings/saes.md is written from all rows;
without a model that is all it does.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.saes_report import report
from energylens.ingest.texts import iter_texts
from energylens.lens.gate import ce_losses, ce_score
from energylens.lens.models import LanguageModel, load_model
from energylens.lens.saes import Sae, load_saes
from energylens.training.corpus import pack
from energylens.training.saes.config import SaeTrainingConfig
from energylens.training.saes.finish import measure, save_saes
from energylens.training.saes.loop import Report, train_saes
from energylens.training.saes.source import KeptSource, ModelSource

FIGURES = Path("benchmarks/results/saes.json")
PAGE = Path("docs/findings/saes.md")
TEXTS = "builtin:categories"
N_CTX, RANGE, N_RANGES = 128, 4096, 24
D_SAE, STEPS, BATCH = 512, 250, 1024
LEARNING_RATE = 3e-3
N_HELDOUT, N_CE = 32, 16
"""Windows of held-out text; codes are measured on all of them, the loss on some."""
KS = (4.0, 8.0, 16.0, 32.0)
L1S = (0.3, 1.0, 3.0, 10.0)
L0S = (0.1, 1.0, 10.0, 100.0)
TANH_L0S = (0.1, 0.3, 1.0, 3.0)
OMP_OF = "batchtopk"
"""Whose dictionaries are pursued over, each with as many directions as its own k."""


@dataclass(frozen=True)
class Kind:
    """One way of training, and the values of the knob that decides how many features are active."""

    name: str
    architecture: str
    knob: str
    values: tuple[float, ...]
    settings: tuple[tuple[str, str], ...] = ()
    resample_every: int = 0


KINDS = (
    Kind("standard", "standard", "l1", L1S),
    Kind("standard, resampled", "standard", "l1", L1S, resample_every=100),
    Kind("gated", "gated", "l1", L1S),
    Kind("topk", "topk", "k", KS),
    Kind("batchtopk", "batchtopk", "k", KS),
    Kind(
        "matryoshka_batchtopk", "matryoshka_batchtopk", "k", KS,
        (("matryoshka_widths", "[64,192,512]"),),
    ),
    Kind("jumprelu", "jumprelu", "l0_coefficient", L0S),
    Kind(
        "jumprelu, tanh", "jumprelu", "l0_coefficient", TANH_L0S,
        (("jumprelu_sparsity_loss_mode", "tanh"), ("jumprelu_bandwidth", "2.0")),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One place on a training's curve."""

    step: int
    fvu: float
    l0: float
    dead_share: float


@dataclass(frozen=True)
class Row:
    """One SAE, or pursuit over its dictionary, on text that it was not trained on."""

    model: str
    hook: str
    texts: str
    """What was trained on, by its last name."""
    heldout: str
    """What it is measured on."""
    kind: str
    knob: str
    value: float
    l0: float
    fvu: float
    ce_recovered: float | None
    """None where zeros in the hook's place cost the model nothing."""
    dead_share: float
    """Features that are active on none of the held-out tokens."""
    seconds: float
    """Of training; of encoding the held-out tokens for a pursuit."""
    curve: tuple[Point, ...] = ()


class Curve:
    """A Watch that keeps a point at each record."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def begin(self) -> None:
        pass

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        pass

    def step(self, report: Callable[[], Report]) -> None:
        pass

    def record(self, report: Report) -> None:
        (one,) = report.figures
        self.points.append(Point(report.step, one.fvu, one.l0, one.dead_share))


@dataclass(frozen=True)
class Bench:
    """A model with activations to train on and others to be measured on."""

    name: str
    texts: str
    heldout: str
    model: LanguageModel
    hook: str
    source: KeptSource
    ids: Int[Tensor, "windows n_ctx"]
    pool: Float[Tensor, "n d_in"]


def bench_of(source: str, texts: str, heldout: str) -> Bench:
    """Read the activations of the stream behind the middle block once."""
    model = load_model(source)
    hook = model.resid_post(model.n_layers // 2)
    train = _windows(model, hook, texts)
    seen = torch.cat([train.chunk(i)[hook] for i in range(-(-N_RANGES * RANGE // 1000))])
    parts = seen[: N_RANGES * RANGE].split(RANGE)
    other = _windows(model, hook, heldout)
    ids = pack(model.tokenizer, (text.text for text in iter_texts(heldout)))
    windows = torch.from_numpy(ids[: N_HELDOUT * N_CTX].astype(np.int64)).reshape(-1, N_CTX)
    pool = torch.cat([other.chunk(i)[hook] for i in range(N_HELDOUT // 8)])
    facts = train.facts | {"model_name": model.source}
    kept = KeptSource(lambda place, _: parts[place].numpy(), len(parts), RANGE, (hook,), 0, facts)
    name, trained_on, read = (Path(one).name for one in (source, texts, heldout))
    return Bench(name, trained_on, read, model, hook, kept, windows, pool)


def _windows(model: LanguageModel, hook: str, texts: str) -> ModelSource:
    ids = pack(model.tokenizer, (text.text for text in iter_texts(texts)))
    return ModelSource(model, ids, (hook,), N_CTX, 0, Path(texts).name)


def rows_of(bench: Bench, kind: Kind, value: float) -> Iterator[Row]:
    """Train an SAE and measure it; for `OMP_OF` also pursuit over its dictionary."""
    config = SaeTrainingConfig(
        (bench.hook,),
        architecture=kind.architecture,
        d_sae=D_SAE,
        n_tokens=STEPS * BATCH,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        settings=dict(kind.settings),
        sweep={kind.knob: (value,)},
        resample_every=kind.resample_every,
    )
    curve, began = Curve(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = train_saes(bench.source, config, folder / "c.safetensors", curve)
        (saved,) = save_saes(trained, folder, bench.source.facts)
        seconds = time.perf_counter() - began
        (sae,) = load_saes([str(saved.folder)])
        yield measured(bench, sae, kind.name, kind.knob, value, seconds, tuple(curve.points))
        if kind.name == OMP_OF:
            (pursuit,) = load_saes([f"{saved.folder}@omp:{int(value)}"])
            began = time.perf_counter()
            measure(pursuit, bench.pool)
            seconds = time.perf_counter() - began
            yield measured(bench, pursuit, f"omp over {OMP_OF}", "k", value, seconds, ())


def measured(
    bench: Bench,
    sae: Sae,
    kind: str,
    knob: str,
    value: float,
    seconds: float,
    curve: tuple[Point, ...],
) -> Row:
    """The gate's figures on held-out text."""
    found = measure(sae, bench.pool)
    ids = bench.ids[:N_CE]
    loss = ce_losses(bench.model, sae, ids, torch.ones_like(ids, dtype=torch.bool))
    return Row(
        bench.name, bench.hook, bench.texts, bench.heldout, kind, knob, value, found.l0, found.fvu,
        ce_score(*loss), found.n_dead / sae.d_sae, seconds, curve,
    )  # fmt: skip


def known_rows() -> list[Row]:
    """What earlier commands have measured."""
    if not FIGURES.exists():
        return []
    return [
        Row(**row | {"curve": tuple(Point(**point) for point in row["curve"])})
        for row in json.loads(FIGURES.read_text(encoding="utf-8"))
    ]


def main() -> None:
    """Measure what is not known yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--texts", default=TEXTS)
    parser.add_argument("--heldout", default=TEXTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = known_rows()
    for source in asked.models:
        bench = bench_of(source, asked.texts, asked.heldout)
        for kind, value in ((one, value) for one in KINDS for value in one.values):
            key = (bench.name, bench.texts, bench.heldout, kind.name, value)
            if key in {(r.model, r.texts, r.heldout, r.kind, r.value) for r in rows}:
                continue
            for row in rows_of(bench, kind, value):
                rows.append(row)
                sys.stderr.write(f"{row.model} {row.kind} {row.value:g}: {row.fvu:.3f}\n")
            partial = FIGURES.with_suffix(".partial")
            partial.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", "utf-8")
            partial.replace(FIGURES)
    PAGE.write_text(report(rows), encoding="utf-8")
    print(f"wrote {PAGE}")  # noqa: T201


if __name__ == "__main__":
    main()
